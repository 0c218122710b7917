"""A parameter group, bound: which tensors take part in a step, through which kernels."""

from __future__ import annotations

import operator
import warnings
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kudari.compile.cpu import compile_cpu
from kudari.compile.cut import cut
from kudari.compile.expression import Expr, evaluate
from kudari.compile.extend import Extras, extend
from kudari.compile.lower import lower
from kudari.compile.notation import Rule
from kudari.compile.program import Storage, sum_name
from kudari.compile.rounding import KAHAN, with_drawn_states, with_rounding
from kudari.compile.trace import Trace, trace
from kudari.errors import UnsupportedError
from kudari.optim import sharding
from kudari.optim.binding import (
    FLOATS,
    Binding,
    CpuBinding,
    EagerBinding,
    Member,
    fit_states,
    for_each_element,
    own_gradient,
    read_numbers,
)
from kudari.optim.staged import StagedBinding, batches, fit_factors
from kudari.optim.states import is_coded, pieces, recode, storage

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
        self.numbers: list[float] = []
        self._bind(group)

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
            member = self._member(p, fresh, traced, {**group, **kinds})
            _refuse_average(rule, member)
            self._fit(member, traced, group)
            fit_factors(rule.name, p, self.owner.state[p], [s.key for s, _ in traced.factors])
            if member.part is not None:
                member.part.put_back()
                self.parts.append(member.part)
            stored = tuple(storage(x) for x in (p, g, *(member.state[k] for k in member.keys)))
            sorts.setdefault((traced, _has_kernel(member), g.dtype, stored), []).append(member)
        for (traced, kernel, grad_dtype, _), members in sorts.items():
            if not kernel:
                _say_eager(rule, members[0].param)
            parts = cut(traced)
            if len(parts) == 1:
                self.bindings.append(_bind_part(traced, members, grad_dtype, kernel))
            else:
                for some in batches(members):
                    self.bindings.append(StagedBinding(traced, parts, some, grad_dtype, kernel, _bind_part))

    def _trace(
        self, group: Mapping[str, Any], kinds: Mapping[str, bool | str], dtype: torch.dtype = torch.float32
    ) -> Trace:
        """The rule for one kind of tensors of one dtype, with the group's rounding, traced once."""
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

    def _member(self, p: Tensor, fresh: bool, traced: Trace, config: Mapping[str, Any]) -> Member:
        state, gradient, part = self.owner.state[p], self.gradient, None
        shape = tuple(p.shape)
        if sharding.is_sharded(p):
            each = [s.key for s in traced.states if for_each_element(s, self.group)]
            state.update({key: sharding.cut_like(state[key], p) for key in each})
            in_order = len(each) < len(traced.states)
            part = sharding.Part(p, state, gradient, self.owner._cuts, in_order)
            p, state, gradient = part.param, part.state, part.own_gradient
        rule = self.rule
        # Without a `step` of its own, a rule that asks for t learns only whether this is the first step.
        seen = torch.tensor(0.0 if fresh else 1.0, dtype=torch.float32, device="cpu")
        counter = state["step"] if rule.keeps_count(config) else seen
        keys = tuple(s.key for s in traced.states)
        cells = (*(s.key for s, _ in traced.cells), *traced.measures)
        held: MutableMapping[str, Any] = state
        if rule.measures:
            measures = {m.name: m.of(shape) for m in rule.measures}
            numbers = {n: torch.tensor(x, dtype=torch.float64, device="cpu") for n, x in measures.items()}
            held = ChainMap(numbers, state)
        return Member(p, held, counter, keys, cells, gradient, part)

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
            binding.run(self.numbers, torch.get_num_threads())
        self.release()

    def release(self) -> None:
        """Let go of the gradients' parts, so that dropping a gradient gives its memory back."""
        for part in self.parts:
            if self.rule.clears:
                part.clear_gradient()
            part.release()

    def advanced(self, of_model: Collection[str]) -> dict[str, float]:
        """New values of the group's own numbers after the step, those of the model left out."""
        return self._evaluated((n, e) for n, e in self.trace.running if n not in of_model)

    def advanced_together(self, of_model: Collection[str]) -> dict[str, float]:
        """New values of the model's numbers, from the sums over all groups."""
        binding = self.bindings[0]
        sums = {sum_name(i): float(x) for i, x in enumerate(binding.sums[0])}
        return self._evaluated(((n, e) for n, e in binding.program.running if n in of_model), sums)

    def _evaluated(
        self, new: Iterable[tuple[str, Expr]], sums: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """Values in float64; whole numbers stay whole."""
        values = dict(zip(self.trace.hypers, self.numbers, strict=False)) | dict(sums or {})
        return {name: type(self.group[name])(evaluate(expr, values)) for name, expr in new}

    def _numbers(self, group: dict[str, Any], scale: Tensor | None) -> list[float]:
        numbers = read_numbers(group, self.names)
        return numbers if scale is None else [*numbers, float(scale)]


def _nones(value: Any) -> Any:
    """Which parts of a hyper-parameter are None."""
    return tuple([part is None for part in value]) if isinstance(value, tuple) else value is None


def _bind_part(
    traced: Trace, members: Sequence[Member], grad_dtype: torch.dtype, kernel: bool, counts: bool = True
) -> Binding:
    """Bind a rule without stages, or a part of one with them, to tensors of one dtype per slot.

    Args:
        traced: the rule or part.
        members: the tensors; a state that they lack is a temporary.
        grad_dtype: dtype of the gradients.
        kernel: whether the CPU kernel can work on them.
        counts: whether this part counts the step.
    """
    first = members[0]
    compute = torch.float64 if first.param.dtype is torch.float64 else torch.float32
    held = [
        first.state[s.key] if s.key in first.state else torch.empty(0, dtype=compute) for s in traced.states
    ]
    stored = [storage(x) for x in (first.param, torch.empty(0, dtype=grad_dtype), *held)]
    dtypes: dict[str, Storage] = {n: d or "f64" for n, d in zip(traced.slots, stored, strict=True)}
    short = {s.name for s in traced.states if dtypes[s.name] == "bf16"} - {KAHAN.name}
    program = lower(with_drawn_states(traced, short), dtypes, counts)
    if kernel and not program.mixes_codes:
        return CpuBinding(program, compile_cpu(program), members, grad_dtype)
    return EagerBinding(program, members, grad_dtype)


def _has_kernel(member: Member) -> bool:
    """Whether the CPU kernel can work on this tensor and its states."""
    p = member.param
    values = [p, member.gradient(p), *(member.state[k] for k in member.keys)]
    plain = type(p) in (Tensor, torch.nn.Parameter)
    known = all(storage(x) is not None for x in values)
    return plain and known and all(x.device.type == "cpu" for value in values for x in pieces(value))


def _check_gradient(rule: Rule, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
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
