"""The torch.optim face of a rule: an ``Optimizer`` whose step is one fused kernel a group."""

from __future__ import annotations

import inspect
import operator
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, TypeVar, overload

import torch
from torch import Tensor
from torch.optim import optimizer as torch_optimizer

from kudari.compile import eager
from kudari.compile.cpu import compile_cpu
from kudari.compile.lower import lower
from kudari.compile.notation import Rule
from kudari.compile.program import Program, sum_name
from kudari.compile.trace import Trace, trace
from kudari.errors import UnsupportedError
from kudari.optim import hypers, loading
from kudari.optim.binding import FLOATS, CpuBinding, Member, is_dense, read_numbers, real
from kudari.optim.describe import docstring

_T = TypeVar("_T")
Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class EagerFallbackWarning(UserWarning):
    """A step is taken by plain torch operations because there is no kernel for the device or dtype."""


class RuleOptimizer(torch.optim.Optimizer):
    """Base of the optimizers; each class is made from a rule by :func:`make_class`.

    Args:
        params: tensors, group dicts, or (name, tensor) pairs.
        others: the rule's hyper-parameters and options, and torch's common keywords.

    Raises:
        HyperError: a value is outside its range; it is a ``ValueError``.
        UnsupportedError: a gradient is of a kind the rule cannot use; it is a ``RuntimeError``.
    """

    rule: ClassVar[Rule]
    _signature: ClassVar[inspect.Signature]
    _options: ClassVar[operator.itemgetter[str]]
    _switches: ClassVar[tuple[str, ...]]
    _optional: ClassVar[tuple[str, ...]]
    _step_supports_amp_scaling = True
    grad_scale: Tensor | None
    found_inf: Tensor | None

    def __init__(self, params: Params, *args: Any, **kwargs: Any) -> None:
        values = dict(hypers.bind(self.rule, self._signature, (params, *args), kwargs))
        given = values.pop("params")
        hypers.check(self.rule, values)
        self._bound: dict[int, _Group] = {}
        self._entries: list[dict[str, Any]] = []
        super().__init__(given, values)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; values it does not name are the constructor's.

        Raises:
            HyperError: a value of the group is outside its range; the optimizer is left as it was.
        """
        if isinstance(param_group, dict):
            hypers.check(self.rule, {**self.defaults, **param_group})
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], _T]) -> _T: ...
    def step(self, closure: Callable[[], _T] | None = None) -> _T | None:
        """Take one step.

        Args:
            closure: recomputes the loss; called once, with gradients enabled.

        Returns:
            What the closure returned, or None.
        """
        if (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
        ):
            result: _T | None = _hooked_step(self, closure)
            return result
        return self._step(closure)

    # Tells torch not to wrap `step` again: the hooks are run above, and only when there are any.
    step.hooked = True  # type: ignore[attr-defined]

    def _step(self, closure: Callable[[], _T] | None = None) -> _T | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found = getattr(self, "found_inf", None)
        if found is not None and float(found) != 0:
            return loss
        scale = getattr(self, "grad_scale", None)
        # States that were taken away or replaced from outside must not be written to any more.
        if not all(map(operator.is_, self.state.values(), self._entries)) or len(self.state) != len(
            self._entries
        ):
            self._bound.clear()
        for index, group in enumerate(self.param_groups):
            bound = self._bound.get(index)
            if bound is None or not bound.step(group, scale):
                bound = self._bound[index] = _Group(self, group, scale is not None)
                bound.step_first(group, scale)
                self._entries = list(self.state.values())
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop every gradient, or set it to zero.

        Args:
            set_to_none: give the memory back instead of filling it with zeros.
        """
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a checkpoint of this class, or of torch's class of the same name.

        State keeps the dtype this class gives it. If both sides have parameter names, tensors are matched
        by name, else by position.

        Raises:
            ValueError: the checkpoint's groups or names do not fit.
        """
        loading.load(self, state_dict)
        self._bound.clear()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._bound, self._entries = {}, []
        for group in self.param_groups:
            for key, value in {**self.defaults, **hypers.COMMON}.items():
                group.setdefault(key, value)

    def init_state(self, p: Tensor, group: dict[str, Any]) -> bool:
        """Give a tensor the states it lacks; True if it had none of the rule's own."""
        state = self.state[p]
        fresh = True
        if self.rule.counts and state.get("step") is None:
            state["step"] = torch.zeros((), dtype=torch.float32)
        for declared in self.rule.active_states(group):
            if state.get(declared.key) is not None:
                fresh = False
                continue
            state[declared.key] = torch.zeros_like(
                p if is_dense(p) else p.contiguous(),
                dtype=loading.state_dtype(p.dtype),
                memory_format=torch.preserve_format,
                requires_grad=False,
            )
        return fresh


_hooked_step = torch.optim.Optimizer.profile_hook_step(RuleOptimizer._step)


class _Group:
    """One parameter group, bound: which tensors take part, and through which kernels."""

    def __init__(self, owner: RuleOptimizer, group: dict[str, Any], unscale: bool) -> None:
        self.owner, self.unscale = owner, unscale
        self.params = list(group["params"])
        self.config = self._config(group)
        self.trace: Trace = trace(owner.rule, group, maximize=bool(group["maximize"]), unscale=unscale)
        self.names = [
            (name.partition("[")[0], int(name.partition("[")[2][:-1]) if "[" in name else None)
            for name in self.trace.hypers
            if name not in ("t", "grad_scale")
        ]
        self.idle = [p for p in self.params if p.grad is None]
        self.bindings: list[CpuBinding] = []
        self.eager: list[tuple[Program, Member, torch.dtype]] = []
        self._bind(group)

    def _config(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """Everything about a group that decides the program; a few look-ups, since every step asks."""
        found: tuple[Any, ...] = self.owner._options(group)
        if self.owner._switches:
            found += tuple([bool(group[key]) for key in self.owner._switches])
        if self.owner._optional:
            found += tuple([group[key] is None for key in self.owner._optional])
        return found

    def _bind(self, group: dict[str, Any]) -> None:
        """Sort the tensors with gradients by dtype and make a binding for each sort."""
        sorts: dict[tuple[Any, ...], list[Member]] = {}
        for p in self.params:
            if p.grad is None or p.numel() == 0:
                continue
            _check_gradient(self.owner.rule, p, p.grad, group)
            fresh = self.owner.init_state(p, group)
            member = self._member(p, fresh)
            dtypes = (p.dtype, p.grad.dtype, *(member.state[k].dtype for k in member.keys))
            sorts.setdefault((_has_kernel(p, p.grad, member), dtypes), []).append(member)
        for (kernel, dtypes), members in sorts.items():
            reals = [real(torch.empty(0, dtype=d)).dtype for d in dtypes]
            storage = {n: FLOATS.get(d, "f64") for n, d in zip(self.trace.slots, reals, strict=True)}
            program = lower(self.trace, storage)
            if kernel:
                self.bindings.append(CpuBinding(program, compile_cpu(program), members, dtypes[1]))
            else:
                _say_eager(self.owner.rule, members[0].param)
                self.eager += [(program, m, dtypes[1]) for m in members]

    def _member(self, p: Tensor, fresh: bool) -> Member:
        state = self.owner.state[p]
        rule = self.owner.rule
        # Without a `step` of its own, a rule that asks for t learns only whether this is the first step.
        counter = state["step"] if rule.counts else torch.tensor(0.0 if fresh else 1.0)
        return Member(p, state, counter, tuple(s.key for s in self.trace.states))

    def step(self, group: dict[str, Any], scale: Tensor | None) -> bool:
        """Take the step if the tensors are the ones bound; False if the group must be bound anew."""
        params = group["params"]
        if (
            len(params) != len(self.params)
            or (scale is not None) is not self.unscale
            or self._config(group) != self.config
            or not all(map(operator.is_, params, self.params))
            or any(p.grad is not None for p in self.idle)
        ):
            return False
        found = [binding.ready() for binding in self.bindings]
        if "stale" in found or not all(_same_gradient(m.param, d) for _, m, d in self.eager):
            return False
        numbers = self._numbers(group, scale)
        for binding, state in zip(self.bindings, found, strict=True):
            if state == "ready":
                binding.run(numbers, torch.get_num_threads())
            else:
                self._run_staged(binding, numbers)
        self._run_eager(numbers)
        return True

    def step_first(self, group: dict[str, Any], scale: Tensor | None) -> None:
        """Take the step right after binding, gradients in any layout."""
        numbers = self._numbers(group, scale)
        for binding in self.bindings:
            self._run_staged(binding, numbers)
        self._run_eager(numbers)

    @torch.no_grad()
    def _run_staged(self, binding: CpuBinding, numbers: list[float]) -> None:
        grads = [_dense_gradient(p) for p in binding.params]
        binding.run_staged(grads, numbers, torch.get_num_threads())

    def _numbers(self, group: dict[str, Any], scale: Tensor | None) -> list[float]:
        numbers = read_numbers(group, self.names)
        return numbers if scale is None else [*numbers, float(scale)]

    @torch.no_grad()
    def _run_eager(self, numbers: list[float]) -> None:
        for program, member, _ in self.eager:
            member.counter.add_(1)
            values = dict(zip(program.hypers, numbers, strict=False))
            values |= {"t": float(member.counter), "numel": float(real(member.param.detach()).numel())}
            tensors = [member.param.detach(), _dense_gradient(member.param)]
            tensors += [member.state[key] for key in member.keys]
            slots = dict(zip(self.trace.slots, map(real, tensors), strict=True))
            for number, part in enumerate(program.passes):
                sums = eager.run_pass(program, number, slots, values)
                values |= {sum_name(part.first_sum + i): x for i, x in enumerate(sums)}


def _same_gradient(p: Tensor, dtype: torch.dtype) -> bool:
    return p.grad is not None and p.grad.dtype is dtype and p.grad.layout is torch.strided


def _has_kernel(p: Tensor, g: Tensor, member: Member) -> bool:
    """Whether the CPU kernel can work on this tensor and its states."""
    tensors = [p, g, *(member.state[k] for k in member.keys)]
    plain = type(p) in (Tensor, torch.nn.Parameter)
    known = all(real(torch.empty(0, dtype=x.dtype)).dtype in FLOATS for x in tensors)
    return plain and known and all(x.device.type == "cpu" for x in tensors)


def _dense_gradient(p: Tensor) -> Tensor:
    g = p.grad
    assert g is not None
    return g.to_dense() if g.layout is not torch.strided else g


def _check_gradient(rule: Rule, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    if g.layout is torch.strided:
        return
    if not rule.sparse:
        raise UnsupportedError(
            f"{rule.name} cannot use a sparse gradient (shape {tuple(p.shape)}).",
            why="Its moments change for every element at every step.",
            fix="Use SGD or Adagrad for these tensors, or make the layer's sparse=False.",
        )
    if group["weight_decay"]:
        raise UnsupportedError(
            f"{rule.name}: weight_decay={group['weight_decay']} does not go with a sparse gradient.",
            why="Decay reaches every element, so nothing would be sparse about the step.",
            fix="Put these tensors into a group with weight_decay=0.",
        )


_said: set[tuple[str, str, torch.dtype]] = set()


def _say_eager(rule: Rule, p: Tensor) -> None:
    key = (rule.name, p.device.type, p.dtype)
    if key not in _said:
        _said.add(key)
        warnings.warn(
            f"{rule.name}: no kernel for {p.dtype} parameters of type {type(p).__name__} on "
            f"{p.device.type}; plain torch operations take the step, with the same numbers but slower.",
            EagerFallbackWarning,
            stacklevel=6,
        )


def make_class(rule: Rule, module: str = __name__) -> type[RuleOptimizer]:
    """Make the optimizer class of a rule.

    Example:
        >>> from kudari.compile.notation import Step, hyper, rule, sign
        >>> @rule(name="SignSGD", source="Bernstein et al. 2018, signSGD")
        ... def sign_sgd(p, g, *, lr=hyper(1e-3, at_least=0)):
        ...     return Step(p=p - lr * sign(g))
        >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> w.grad = torch.tensor([0.5, -3.0])
        >>> make_class(sign_sgd)([w], lr=0.25).step()
        >>> w.data
        tensor([ 0.7500, -1.7500])
    """
    options = [o.name for o in rule.options]
    body = {
        "rule": rule,
        # `maximize` twice: an itemgetter of one key would not return a tuple.
        "_options": operator.itemgetter("maximize", "maximize", *options),
        "_switches": tuple({s.when for s in rule.states if s.when} - set(options)),
        "_optional": tuple(h.name for h in rule.hypers if h.optional),
        "_signature": hypers.signature(rule),
        "__signature__": hypers.signature(rule),
        "__doc__": docstring(rule),
        "__module__": module,
    }
    return type(rule.name, (RuleOptimizer,), body)


def classes(rules: Sequence[Rule], module: str) -> dict[str, type[RuleOptimizer]]:
    """The classes of several rules, by name."""
    return {rule.name: make_class(rule, module) for rule in rules}
