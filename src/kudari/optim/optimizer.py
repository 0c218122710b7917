"""The torch.optim face of a rule: an ``Optimizer`` whose step is one fused kernel a group."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar, overload

import torch
from torch import Tensor
from torch.optim import optimizer as torch_optimizer

from kudari.compile.notation import Rule, Running, State
from kudari.compile.rounding import KAHAN
from kudari.errors import UnsupportedError
from kudari.garbage import uncollected
from kudari.optim import hypers, loading, running, sharding
from kudari.optim.backends import backend_of
from kudari.optim.binding import add_up_model_sums
from kudari.optim.bound_group import BoundGroup
from kudari.optim.finite import FiniteCheck, not_finite
from kudari.optim.gpu_binding import GpuBinding, capturing
from kudari.optim.members import for_each_element, state_like
from kudari.optim.staged import StagedBinding
from kudari.optim.states import convert, is_coded, kept_as, real, state_dtype

_T = TypeVar("_T")
Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class RuleOptimizer(torch.optim.Optimizer):
    """Base of the optimizers; each class is made from a rule by ``make_class``.

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
    _group_values: ClassVar[dict[str, Any]] = {}
    _couples: ClassVar[bool]
    _model_numbers: ClassVar[frozenset[str]]
    _slices: ClassVar[tuple[str, ...]]
    _step_supports_amp_scaling = True
    grad_scale: Tensor | None
    found_inf: Tensor | None

    def __init__(self, params: Params, *args: Any, **kwargs: Any) -> None:
        values = dict(hypers.bind(self.rule, self._signature, (params, *args), kwargs))
        given = values.pop("params")
        hypers.check(self.rule, values)
        values |= {r.name: _start(r, values) for r in self.rule.running}
        values |= self._group_values | dict(self.rule.fixed)
        self._bound: dict[int, BoundGroup] = {}
        self._in_graphs: list[BoundGroup] = []
        self._entries: list[dict[str, Any]] = []
        self._cuts = sharding.Cuts()
        self._finite: FiniteCheck | None = None
        super().__init__(given, values)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; values it does not name are the constructor's.

        Raises:
            HyperError: a value of the group is outside its range; the optimizer is left as it was.
        """
        if isinstance(param_group, dict):
            values = {**self.defaults, **param_group}
            hypers.check(self.rule, values)
            hypers.check_shared(self.rule, [*self.param_groups, values])
            for r in self.rule.running:
                of_model = r.name in self._model_numbers and self.param_groups
                start = self.param_groups[0][r.name] if of_model else _start(r, values)
                param_group.setdefault(r.name, start)
        _add_param_group(self, param_group)

    def state_dict(self) -> dict[str, Any]:
        """State and group values as tensors and plain values, in torch's layout."""
        return loading.numbers_on_cpu(self, _state_dict(self))

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
        allowed, flag = self._permission()
        if not allowed:
            return loss
        scale = getattr(self, "grad_scale", None)
        # States that were taken away or replaced from outside must not be written to any more.
        if not all(map(operator.is_, self.state.values(), self._entries)) or len(self.state) != len(
            self._entries
        ):
            self._forget(*self._bound)
        self._cuts.clear()
        groups = list(enumerate(self.param_groups))
        if self.rule.frozen is not None:
            groups = self._not_frozen(groups, self.rule.frozen)
        if self.rule.shared:
            hypers.check_shared(self.rule, self.param_groups)
        bound = [self._prepared(i, group, scale) for i, group in groups]
        if not all(part.on_host for part in bound):
            self._refuse_graph(bound)
            if not _skip_on_device(bound, flag):
                return loss
        _take(bound)
        if self.rule.running:
            with torch.no_grad():
                self._advance(bound, flag)
        return loss

    def _not_frozen(
        self, groups: list[tuple[int, dict[str, Any]]], frozen: Callable[[Mapping[str, Any]], bool]
    ) -> list[tuple[int, dict[str, Any]]]:
        """The groups that move. Where none does and there is no state yet, tensors get theirs.

        torch makes the places that a checkpoint is loaded into by a step with every lr at 0.
        """
        moving = [(i, group) for i, group in groups if not frozen(group)]
        if not moving and not self.state:
            with torch.no_grad():
                for _, group in groups:
                    for p in group["params"]:
                        if p.grad is not None and p.numel():
                            self.init_state(p, group, self.rule)
        return moving

    def _tensors(self) -> Iterable[Tensor]:
        """Every parameter of every group."""
        return (p for group in self.param_groups for p in group["params"])

    def _permission(self) -> tuple[bool, Tensor | None]:
        """Whether the step may be taken, as far as the host knows, and a flag that forbids it where it is 1.

        GradScaler may have found infinities, on any rank, and groups may ask for gradients to be looked at.
        Where every kernel reads the flag itself, nothing here waits for the device.
        """
        flag: Tensor | None = getattr(self, "found_inf", None)
        asking = [group for group in self.param_groups if group["skip_nonfinite"]]
        if flag is None and not asking:
            return True, None
        grads = [sharding.local(p.grad) for group in asking for p in group["params"] if p.grad is not None]
        if self._skips_on_device():
            if grads:
                found = not_finite(grads)
                flag = found if flag is None else torch.maximum(flag.to(found).reshape(()), found)
            return True, flag
        if flag is not None and sharding.on_any_rank(float(flag) != 0, self._tensors()):
            return False, None
        if not asking:
            return True, None
        if self._finite is None:
            self._finite = FiniteCheck()
        finite = self._finite(grads, torch.get_num_threads())
        return not sharding.on_any_rank(not finite, self._tensors()), None

    def _refuse_graph(self, bound: list[BoundGroup]) -> None:
        """Numbers that the host computes for each step cannot change in a CUDA graph."""
        if not any(part.params and capturing(part.params[0].device) for part in bound):
            return
        on_host = [part for part in bound if self.rule.running and not part.keeps_there]
        if on_host or not all(b.on_device for part in bound for b in part.bindings):
            kept = f"{self.rule.running[0].name!r}" if on_host else "its numbers"
            first = "Build it with capturable=True; or capture" if on_host else "Capture"
            raise UnsupportedError(
                f"{self.rule.name} cannot be captured in a CUDA graph.",
                why=f"The host computes {kept} for each step; every replay would have those of now.",
                fix=f"{first} the forward and backward pass, and call optimizer.step() after the replay.",
            )

    def _forget(self, *groups: int) -> None:
        """Let go of what groups were bound to, but for tables that a CUDA graph reads at every replay."""
        found = [self._bound.pop(index) for index in groups if index in self._bound]
        self._in_graphs += [part for part in found if part.captured]

    def _skips_on_device(self) -> bool:
        """Whether all kernels read GradScaler's flag themselves, and nothing else waits for it."""
        if any(map(sharding.is_sharded, self._tensors())):
            return False
        if self.rule.running and not all(group["capturable"] for group in self.param_groups):
            return False
        backends = set(map(backend_of, self._tensors()))
        return all(b is not None and b.on_device for b in backends)

    def _advance(self, bound: list[BoundGroup], skip: Tensor | None) -> None:
        """Give the groups' own numbers their new values; those of the model are one for all groups."""
        own = [part.advanced(self._model_numbers) for part in bound]
        together = next((part for part in bound if part.bindings), None)
        shared = together.advanced_together(self._model_numbers) if together and self._model_numbers else {}
        for part, new in zip(bound, own, strict=True):
            running.take(part.group, new, skip)
        for group in self.param_groups:
            running.take(group, shared, skip)

    def _prepared(self, index: int, group: dict[str, Any], scale: Tensor | None) -> BoundGroup:
        """The group bound to its tensors as they are now, gradients in place."""
        bound = self._bound.get(index)
        if bound is None or not bound.prepare(group, scale):
            self._forget(index)
            if any(capturing(p.device) for p in group["params"][:1]):
                raise UnsupportedError(
                    f"{self.rule.name}: a CUDA graph cannot take up the first step of its tensors.",
                    why="Their states and tables are made in that step, which waits for the device.",
                    fix="Take a step with the same parameters and gradients before the capture.",
                )
            with torch.no_grad(), uncollected():
                bound = self._bound[index] = BoundGroup(self, group, scale is not None)
                bound.prepare_first(group, scale)
            self._entries = list(self.state.values())
        return bound

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

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_bound", {})
        self.__dict__.setdefault("_in_graphs", [])
        self._entries, self._cuts, self._finite = [], sharding.Cuts(), None
        self._forget(*self._bound)
        for group in self.param_groups:
            for key, value in {**self.defaults, **hypers.COMMON}.items():
                group.setdefault(key, value)
            group.update(self.rule.fixed)

    def _apply(
        self, formula: str, group: dict[str, Any], gradient: Callable[[Tensor], Tensor | None]
    ) -> None:
        """Apply one of the rule's formulas beside the step to the tensors that ``gradient`` has one for."""
        self._cuts.clear()
        with torch.no_grad():
            bound = BoundGroup(self, group, False, formula, gradient)
            bound.prepare_first(group, None)
            _take([bound])

    def init_state(self, p: Tensor, group: dict[str, Any], rule: Rule) -> bool:
        """Give a tensor the states of a rule that it lacks; True if it had none of them."""
        state = self.state[p]
        fresh = True
        values = {**group, **rule.kinds_of(tuple(p.shape), group)}
        if rule.keeps_count(values) and state.get("step") is None:
            state["step"] = torch.zeros((), dtype=torch.float32, device="cpu")
        for declared in rule.active_states(values):
            if state.get(declared.key) is not None:
                fresh = False
                continue
            state[declared.key] = _first_value(rule, declared, p, group)
        short = p.dtype in (torch.bfloat16, torch.float16)
        if group["rounding"] == "kahan" and short and state.get(KAHAN.key) is None:
            first = state_like(rule, sharding.local(p), p.dtype, KAHAN, group).zero_()
            state[KAHAN.key] = sharding.placed_like(first, p)
        return fresh


def _start(declared: Running, values: Mapping[str, Any]) -> float:
    """A group's own number before the first step."""
    return float(values[declared.start]) if isinstance(declared.start, str) else declared.start


def _first_value(rule: Rule, declared: State, p: Tensor, group: Mapping[str, Any]) -> Any:
    """A state as it is before the first step, as the group keeps it; or a list of factors."""
    start = declared.init
    if declared.sizes is not None:
        sizes = declared.sizes(tuple(p.shape), group)
        like = torch.zeros((), dtype=state_dtype(p.dtype), device=p.device)
        made = [None if n is None else like.new_zeros(n, n) for n in sizes]
        for factor in made:
            if factor is not None and start == "identity":
                factor.diagonal().fill_(1)
        return made
    if isinstance(start, str):
        start = group.get(start, start)
    if declared.scalar:
        return torch.full((), float(start), dtype=torch.float64, device="cpu")
    cut = for_each_element(declared, group)
    part = sharding.local(p) if cut else p
    state = state_like(rule, part, state_dtype(p.dtype), declared, group).zero_()
    if start == "copy":
        state.copy_(part.detach() if cut else sharding.whole(p).flatten()[:: int(group[declared.every])])
    elif start != "zeros":
        real(state).fill_(float(start))  # of a complex tensor, both parts
    kept = convert(state, part, kept_as(declared, p, group))
    return sharding.placed_like(kept, p) if cut and not is_coded(kept) else kept


def _without_dynamo(method: Callable[..., Any]) -> Callable[..., Any]:
    """torch's own method, without the decorator that loads its whole compiler (seconds) at the first call."""
    return getattr(method, "__wrapped__", method)


_add_param_group = _without_dynamo(torch.optim.Optimizer.add_param_group)
_state_dict = _without_dynamo(torch.optim.Optimizer.state_dict)


def _skip_on_device(bound: list[BoundGroup], flag: Tensor | None) -> bool:
    """Hand GradScaler's flag to the kernels; False if it had to be read here and forbids the step."""
    bindings = [binding for part in bound for binding in part.bindings]
    on_device = all(binding.on_device for binding in bindings)
    for binding in bindings:
        if isinstance(binding, GpuBinding):
            binding.skip = flag if on_device else None
    return flag is None or on_device or float(flag) == 0


def _take(bound: list[BoundGroup]) -> None:
    """Take a step that is prepared."""
    if any(part.needs_others for part in bound):
        _run_together(bound)
        return
    for part in bound:
        part.run()


def _run_together(bound: list[BoundGroup]) -> None:
    """Take the passes of all groups side by side, because sums over model or ranks need them all."""
    whole = [(part, b) for part in bound for b in part.bindings]
    staged = [(part, b) for part, b in whole if isinstance(b, StagedBinding)]
    parts = [(part, b) for part, b in whole if not isinstance(b, StagedBinding)]
    parts += [(part, b.meeting) for part, b in staged if b.meeting is not None]
    passes = max((len(binding.program.passes) for _, binding in parts), default=0)
    for number in range(passes):
        for part, binding in parts:
            if number < len(binding.program.passes):
                binding.run_pass(number, part.numbers_for(binding), torch.get_num_threads())
        sharding.add_up_parts([binding for _, binding in parts], number)
        add_up_model_sums([binding for _, binding in parts], number)
    with torch.no_grad():
        for _, binding in parts:
            binding.finish()
    for part, late in staged:
        late.run(part.numbers_for(late), torch.get_num_threads())
    for part in bound:
        part.release()


_hooked_step = torch.optim.Optimizer.profile_hook_step(RuleOptimizer._step)
