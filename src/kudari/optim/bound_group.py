"""A parameter group, bound: which tensors take part in a step, through which kernels."""

from __future__ import annotations

import operator
import warnings
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kudari.compile.cut import cut
from kudari.compile.extend import Extras, extend
from kudari.compile.lower import lower
from kudari.compile.notation import Rule
from kudari.compile.program import Program, Storage, sum_name
from kudari.compile.rounding import KAHAN, with_drawn_states, with_rounding
from kudari.compile.trace import Trace, trace
from kudari.errors import CompileError, UnsupportedError
from kudari.optim import running, sharding
from kudari.optim.backends import BACKENDS, Backend, backend_of
from kudari.optim.binding import Binding, needs_others, read_numbers
from kudari.optim.eager_binding import EagerBinding
from kudari.optim.gpu_binding import GpuBinding
from kudari.optim.members import Member, fit_states, for_each_element, own_gradient
from kudari.optim.staged import StagedBinding, batches, fit_factors
from kudari.optim.states import FLOATS, is_coded, pieces, recode, storage

if TYPE_CHECKING:
    from kudari.optim.optimizer import RuleOptimizer


class EagerFallbackWarning(UserWarning):
    """A step is taken by plain torch operations because there is no kernel for the device or dtype."""


class BoundGroup:
    """One parameter group, bound: which tensors take part, and through which kernels.

    Args:
        owner, group: the optimizer and one of its groups.
        unscale: whether gradients are divided by a GradScaler's scale.
        formula: which of the rule's formulas beside the step; empty for the step itself.
        gradient: what stands for ``g``; tensors without one take no part.
    """

    def __init__(
        self,
        owner: RuleOptimizer,
        group: dict[str, Any],
        unscale: bool,
        formula: str = "",
        gradient: Callable[[Tensor], Tensor | None] = own_gradient,
    ) -> None:
        self.owner, self.unscale, self.gradient = owner, unscale, gradient
        self.params, self.group = list(group["params"]), group
        self.config, self.rounding = self._config(group), str(group["rounding"])
        self.extras = Extras() if formula else Extras.of(group)
        self.rule, self.formula = extend(owner.rule, self.extras), formula
        self.traces: dict[tuple[Any, ...], Trace] = {}
        self.trace = self._trace(group, {})  # its numbers are those of every kind of tensor
        self.names = [
            (name.partition("[")[0], int(name.partition("[")[2][:-1]) if "[" in name else None)
            for name in self.trace.hypers
            if name not in ("t", "grad_scale")
        ]
        self.idle = [p for p in self.params if gradient(p) is None]
        self.bindings: list[Binding | StagedBinding] = []
        self.parts: list[sharding.Part] = []
        self.numbers: list[Any] = []  # numbers, and tensors with one element
        self._bind(group)
        # Asked at every step, and the same at each.
        backends = map(backend_of, self.params)
        here = all(p.device.type == "cpu" for p in self.params)
        self.on_host = here and not any(b is not None and b.on_device for b in backends)
        on_device = not self.on_host and all(b.on_device for b in self.bindings)
        self.keeps_there = bool(self.rule.running and group["capturable"] and self.params and on_device)
        meeting = [b.meeting if isinstance(b, StagedBinding) else b for b in self.bindings]
        self.needs_others = any(b is not None and needs_others(b) for b in meeting)

    def _config(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """Everything about a group that decides the program; a few look-ups, since every step asks."""
        found: tuple[Any, ...] = self.owner._options(group)
        found += (group.get("clip_norm") is None, group.get("ema_decay") is None, group.get("zero_grad"))
        if self.owner._switches:
            found += tuple([bool(group[key]) for key in self.owner._switches])
        if self.owner._optional:
            found += tuple([_nones(group[key]) for key in self.owner._optional])
        if self.owner._slices:
            found += tuple([int(group[key]) for key in self.owner._slices])
        return found

    def _bind(self, group: dict[str, Any]) -> None:
        """Sort the tensors with gradients by dtype and make a binding for each sort."""
        sorts: dict[tuple[Any, ...], list[Member]] = {}
        rule = self.rule
        for p in self.params:
            g = self.gradient(p)
            if g is None or p.numel() == 0:
                continue
            _check_gradient(rule, p, g, group)
            if p.is_complex() and self.owner._couples:
                raise UnsupportedError(
                    f"{self.owner.rule.name} cannot update a complex parameter (shape {tuple(p.shape)}).",
                    why="Its norms and products are defined for real tensors only.",
                    fix="Use an elementwise class such as AdamW for it, or hold it as torch.view_as_real.",
                )
            sharding.check_placement(rule.name, p)
            kinds = rule.kinds_of(tuple(p.shape), group)
            traced = self._trace(group, kinds, p.dtype)
            fresh = self.owner.init_state(p, group, rule)
            backend, member = self._member(p, fresh, traced, {**group, **kinds})
            _refuse_average(rule, member)
            self._fit(member, traced, group)
            fit_factors(rule.name, p, self.owner.state[p], [s.key for s, _ in traced.factors])
            if member.part is not None:
                member.part.put_back()
                self.parts.append(member.part)
            stored = tuple(storage(x) for x in (p, g, *(member.state[k] for k in member.keys)))
            sorts.setdefault((traced, backend, p.device, g.dtype, stored), []).append(member)
        for (traced, backend, _, grad_dtype, _), members in sorts.items():
            parts = cut(traced)
            if len(parts) == 1:
                self.bindings.append(self._bind_part(traced, members, grad_dtype, backend))
            else:
                for some in batches(members):
                    self.bindings.append(
                        StagedBinding(traced, parts, some, grad_dtype, backend, self._bind_part)
                    )

    def _bind_part(
        self,
        traced: Trace,
        members: Sequence[Member],
        grad_dtype: torch.dtype,
        backend: Backend | None,
        counts: bool = True,
    ) -> Binding:
        """Bind a rule without stages, or a part of one with them, to tensors of one dtype per slot.

        Args:
            traced: the rule or part.
            members: the tensors; a state that they lack is a temporary.
            grad_dtype: dtype of the gradients.
            backend: what has kernels for them; torch's operations do what has none.
            counts: whether this part counts the step.
        """
        program = _lowered(traced, members[0], grad_dtype, counts)
        reason = ""
        if backend is not None:
            try:
                return backend.bind(program, members, grad_dtype)
            except CompileError as error:
                reason = str(error)
        _say_eager(self.owner.rule, members[0].param, reason)
        return EagerBinding(program, members, grad_dtype)

    def _trace(
        self, group: Mapping[str, Any], kinds: dict[str, bool | str], dtype: torch.dtype = torch.float32
    ) -> Trace:
        """The rule for one kind of tensors of one dtype, with the group's rounding, traced once.

        A kind that is missing has its first value.
        """
        kinds = {k.name: k.about[0][0] for k in self.rule.kinds} | kinds
        key = (*kinds.values(), dtype)
        if key not in self.traces:
            config = {**group, **kinds}
            maximize = bool(group["maximize"])
            made = trace(self.rule, config, maximize=maximize, unscale=self.unscale, formula=self.formula)
            self.traces[key] = with_rounding(made, self.rounding, FLOATS.get(dtype, "f64"))
        return self.traces[key]

    def _fit(self, member: Member, traced: Trace, group: dict[str, Any]) -> None:
        """Bring the states that a step uses into the form and layout that it goes through them in."""
        p = member.param
        state = self.owner.state[p] if member.part is None else member.part.state
        recode(self.rule.name, member.whole, state, traced.states, group)
        plain = [s for s in traced.states if not is_coded(state[s.key])]
        # Codes are in row-major order, and so must be everything beside them.
        like = p if len(plain) == len(traced.states) else p.detach().contiguous()
        fit_states(self.rule, like, state, plain, group)

    def _member(
        self, p: Tensor, fresh: bool, traced: Trace, config: Mapping[str, Any]
    ) -> tuple[Backend | None, Member]:
        """A tensor with what goes with it, and what has kernels for it; numbers kept for it lie there too."""
        state, gradient, part = self.owner.state[p], self.gradient, None
        shape = tuple(p.shape)
        if sharding.is_sharded(p):
            each = [s.key for s in traced.states if for_each_element(s, self.group)]
            state.update({key: sharding.cut_like(state[key], p) for key in each})
            in_order = len(each) < len(traced.states)
            part = sharding.Part(p, state, gradient, self.owner._cuts, in_order)
            p, state, gradient = part.param, part.state, part.own_gradient
        rule = self.rule
        keys, cells = tuple(s.key for s in traced.states), tuple(s.key for s, _ in traced.cells)
        g = gradient(p)
        assert g is not None
        backend = _backend(p, [g, *(state[k] for k in keys)])
        on_device = config["capturable"] or (backend is not None and backend.on_device)
        device = p.device if on_device else torch.device("cpu")
        counted = rule.keeps_count(config)
        for key in (*(("step",) if counted else ()), *cells):
            state[key] = state[key].to(device)
        # Without a `step` of its own, a rule that asks for t learns only whether this is the first step.
        seen = torch.tensor(0.0 if fresh else 1.0, dtype=torch.float32, device=device)
        counter = state["step"] if counted else seen
        held: MutableMapping[str, Any] = state
        if rule.measures:
            measures = {m.name: m.of(shape) for m in rule.measures}
            numbers = {n: torch.tensor(x, dtype=torch.float64, device=device) for n, x in measures.items()}
            held = ChainMap(numbers, state)
        return backend, Member(p, held, counter, keys, (*cells, *traced.measures), gradient, part)

    def prepare(self, group: dict[str, Any], scale: Tensor | None) -> bool:
        """Get ready for a step; False if the tensors are not the ones bound and must be bound anew."""
        params = group["params"]
        if (
            len(params) != len(self.params)
            or (scale is not None) is not self.unscale
            or self._config(group) != self.config
            or not all(map(operator.is_, params, self.params))
            or any(p.grad is not None for p in self.idle)
        ):
            return False
        whole = [part.refresh() for part in self.parts]  # all of them, as they may send something
        if not all(whole):
            return False
        found = [binding.ready() for binding in self.bindings]
        if "stale" in found:
            return False
        for binding, state in zip(self.bindings, found, strict=True):
            if state == "staged":
                binding.stage()
        self.group, self.numbers = group, self._numbers(group, scale)
        return True

    def prepare_first(self, group: dict[str, Any], scale: Tensor | None) -> None:
        """Get ready for the step right after binding, gradients in any layout."""
        for binding in self.bindings:
            binding.stage()
        self.numbers = self._numbers(group, scale)

    def run(self) -> None:
        """Take the step."""
        for binding in self.bindings:
            binding.run(self.numbers_for(binding), torch.get_num_threads())
        self.release()

    def release(self) -> None:
        """Let go of the gradients' parts, so that dropping a gradient gives its memory back."""
        for part in self.parts:
            if self.rule.clears:
                part.clear_gradient()
            part.release()

    @property
    def captured(self) -> bool:
        """Whether a CUDA graph reads the tables of a binding."""
        return any(isinstance(b, GpuBinding) and b.table.captured for b in self.bindings)

    def numbers_for(self, binding: Binding | StagedBinding) -> list[Any]:
        """The group's numbers; a tensor stays one only for a kernel that reads it where it is."""
        return self.numbers if binding.on_device else list(map(float, self.numbers))

    def advanced(self, of_model: Collection[str]) -> dict[str, float | Tensor]:
        """New values of the group's own numbers after the step, those of the model left out."""
        values = dict(zip(self.trace.hypers, self.numbers, strict=False))
        return running.advanced(((n, e) for n, e in self.trace.running if n not in of_model), values)

    def advanced_together(self, of_model: Collection[str]) -> dict[str, float | Tensor]:
        """New values of the model's numbers, from the sums over all groups."""
        binding = self.bindings[0]
        sums = binding.sums if self.keeps_there and isinstance(binding, GpuBinding) else binding.sums_here()
        values = dict(zip(self.trace.hypers, self.numbers, strict=False))
        values |= {sum_name(i): x for i, x in enumerate(sums[0])}
        return running.advanced(((n, e) for n, e in binding.program.running if n in of_model), values)

    def _numbers(self, group: dict[str, Any], scale: Tensor | None) -> list[Any]:
        if self.keeps_there:
            running.bring(self.rule, group, self.params[0].device)
        numbers = read_numbers(group, self.names)
        return numbers if scale is None else [*numbers, scale]


def _nones(value: Any) -> Any:
    """Which parts of a hyper-parameter are None."""
    return tuple([part is None for part in value]) if isinstance(value, tuple) else value is None


def _backend(p: Tensor, values: Sequence[Any]) -> Backend | None:
    """What has kernels for a parameter with its gradient and states, plain or coded, if anything has."""
    known = all(storage(x) is not None for x in (p, *values))
    there = all(x.device == p.device for value in values for x in pieces(value))
    return backend_of(p) if known and there else None


def _lowered(traced: Trace, first: Member, grad_dtype: torch.dtype, counts: bool) -> Program:
    """The program of a rule or part for tensors like the first."""
    compute = torch.float64 if first.param.dtype is torch.float64 else torch.float32
    held = [
        first.state[s.key] if s.key in first.state else torch.empty(0, dtype=compute) for s in traced.states
    ]
    stored = [storage(x) for x in (first.param, torch.empty(0, dtype=grad_dtype), *held)]
    dtypes: dict[str, Storage] = {n: d or "f64" for n, d in zip(traced.slots, stored, strict=True)}
    short = {s.name for s in traced.states if dtypes[s.name] == "bf16"} - {KAHAN.name}
    return lower(with_drawn_states(traced, short), dtypes, counts)


def _check_gradient(rule: Rule, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    if g.shape != p.shape:
        raise UnsupportedError(
            f"{rule.name}: a gradient has shape {tuple(g.shape)}, its parameter {tuple(p.shape)}.",
            why="They go together element by element; the data of one of them has been replaced.",
            fix="After replacing a parameter's data, call zero_grad() and backward() before step().",
        )
    if g.layout is torch.strided:
        return
    if not rule.sparse:
        raise UnsupportedError(
            f"{rule.name} cannot use a sparse gradient (shape {tuple(p.shape)}).",
            why="Its moments change for every element at every step.",
            fix="Use SGD or Adagrad for these tensors, or make the layer's sparse=False.",
        )
    if rule.clears:
        raise UnsupportedError(
            f"{rule.name}: zero_grad=True does not go with a sparse gradient.",
            fix="Call fuse(optimizer) without zero_grad, and optimizer.zero_grad() after the step.",
        )
    if group["weight_decay"]:
        raise UnsupportedError(
            f"{rule.name}: weight_decay={group['weight_decay']} does not go with a sparse gradient.",
            why="Decay reaches every element, so nothing would be sparse about the step.",
            fix="Put these tensors into a group with weight_decay=0.",
        )


def _refuse_average(rule: Rule, member: Member) -> None:
    average = member.state.get("ema")
    if average is not None and average.numel() and average.data_ptr() == member.param.data_ptr():
        raise UnsupportedError(
            f"{rule.name} cannot step inside `with averaged(optimizer)`.",
            why="The parameters are their averages there; the step would write to both at once.",
            fix="Leave the `with` before training goes on.",
        )


_said: set[tuple[str, str, torch.dtype]] = set()


def _say_eager(rule: Rule, p: Tensor, reason: str) -> None:
    """Say once for a rule, device and dtype that there is no kernel."""
    key = (rule.name, p.device.type, p.dtype)
    if key not in _said:
        _said.add(key)
        warnings.warn(
            f"{rule.name}: no kernel for {p.dtype} parameters of type {type(p).__name__} on "
            f"{p.device.type}; plain torch operations take the step, with the same numbers but slower. "
            f"{reason or _reason(p)}",
            EagerFallbackWarning,
            stacklevel=8,
        )


def _reason(p: Tensor) -> str:
    """Why there is no kernel, and what to do."""
    if p.device.type not in BACKENDS:
        return f"Kernels are made for {' and '.join(BACKENDS)} tensors; nothing to do on this device."
    if type(p) not in (Tensor, torch.nn.Parameter):
        return "Kernels go through memory themselves, which a tensor subclass may not allow."
    return "Kernels read float64, float32, bfloat16 and float16; hold parameters and gradients in those."
