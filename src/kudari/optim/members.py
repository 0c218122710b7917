"""Members of a binding: a parameter with its gradient and states, and the layout that states are kept in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from kudari.compile.notation import Rule, State
from kudari.errors import UnsupportedError
from kudari.optim.sharding import Part
from kudari.optim.states import is_coded, is_dense

Ready = Literal["ready", "staged", "stale"]


def own_gradient(p: Tensor) -> Tensor | None:
    """What a step reads for ``g``."""
    return p.grad


@dataclass(frozen=True)
class Member:
    """One tensor of a binding.

    Attributes:
        param: the parameter; of a sharded one, this rank's part.
        state: its entry in ``optimizer.state``; of a sharded one, the parts of that.
        counter: its step count, a float32 tensor; private where the class has no ``step``.
        keys: names of the states in the order of the program's slots.
        cells: names of the states that are one number, in the order of the program's cells.
        gradient: what stands for ``g``.
        part: where the parameter is sharded.
    """

    param: Tensor
    state: MutableMapping[str, Any]
    counter: Tensor
    keys: tuple[str, ...]
    cells: tuple[str, ...] = ()
    gradient: Callable[[Tensor], Tensor | None] = own_gradient
    part: Part | None = None

    @property
    def whole(self) -> Tensor:
        """The parameter as its owner has it."""
        return self.param if self.part is None else self.part.whole

    @property
    def held(self) -> Tensor:
        """The parameter as the kernel has it: cut over the ranks, or whole."""
        return self.param if self.part is None or self.part.gathered else self.part.whole

    @property
    def numel(self) -> int:
        """Real numbers in the whole parameter, over all ranks."""
        return self.whole.numel() * (2 if self.whole.is_complex() else 1)

    def dense_gradient(self) -> Tensor:
        """What stands for ``g`` as a strided tensor; duplicates of a sparse one are added up."""
        g = self.gradient(self.param)
        assert g is not None
        return g.to_dense() if g.layout is not torch.strided else g


def in_rows(member: Member) -> bool:
    """Whether a tensor has coded states, which are row-major, and so must be all that goes with them."""
    return any(map(is_coded, member.state.values()))


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether equal positions in memory are equal elements, for dense tensors of one shape."""
    if a.is_contiguous() and b.is_contiguous():
        return True
    pairs = zip(a.stride(), b.stride(), a.shape, strict=True)
    return all(i == j or size == 1 for i, j, size in pairs)


def fit_states(
    rule: Rule,
    p: Tensor,
    state: MutableMapping[str, Any],
    declared: Sequence[State],
    group: Mapping[str, Any],
) -> None:
    """Bring states into the layout that the kernel goes through them in: the parameter's, if that is dense.

    They differ after ``model.to(memory_format=...)`` in the middle of a run, or when a checkpoint is loaded.

    Args:
        rule: the optimizer's.
        p: the parameter.
        state: its entry in ``optimizer.state``; values may be replaced.
        declared: which of them the kernel reads.
        group: the parameter's group.

    Raises:
        UnsupportedError: a state has not the shape that goes with the parameter's.
    """
    like = None
    for each in declared:
        value = state[each.key]
        shape = state_shape(p, each, group)
        if value.shape != shape:
            raise UnsupportedError(
                f"{rule.name}: state {each.key!r} has shape {tuple(value.shape)}, its parameter "
                f"{tuple(p.shape)}{'' if shape == p.shape else f', with which goes {tuple(shape)}'}.",
                why="They go together element by element; the parameter or the checkpoint is another one.",
                fix="Load a checkpoint of this model, or delete optimizer.state[p] to start that state anew.",
            )
        if value.is_contiguous() and (p.is_contiguous() or shape != p.shape):
            continue
        if like is None or like.dtype != value.dtype or like.shape != shape:
            like = state_like(rule, p, value.dtype, each, group)
        if not (is_dense(value) and same_layout(value, like)):
            state[each.key] = torch.empty_like(like).copy_(value)


def state_shape(p: Tensor, declared: State, group: Mapping[str, Any]) -> torch.Size:
    """The shape of a parameter's state."""
    if declared.every and group[declared.every] != 1:
        return torch.Size([-(-p.numel() // int(group[declared.every]))])
    if declared.shape == "rows":
        return torch.Size([*p.shape[:-1], 1])
    if declared.shape == "columns":
        return torch.Size([*p.shape[:-2], 1, p.shape[-1]])
    return p.shape


def for_each_element(declared: State, group: Mapping[str, Any]) -> bool:
    """Whether a state has a value for each element of its parameter."""
    return declared.shape == "elements" and not (declared.every and group[declared.every] != 1)


def state_like(
    rule: Rule, p: Tensor, dtype: torch.dtype, declared: State, group: Mapping[str, Any]
) -> Tensor:
    """An uninitialised state: in its parameter's layout, or row-major if the rule looks at the order."""
    if not all(s.shape == "factors" or for_each_element(s, group) for s in rule.states):
        return torch.empty(state_shape(p, declared, group), dtype=dtype, device=p.device)
    return dense_like(p, dtype)


def dense_like(p: Tensor, dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor in the layout of a parameter's states: one block, in the parameter's order."""
    return torch.empty_like(
        p if is_dense(p) else p.contiguous(),
        dtype=dtype,
        memory_format=torch.preserve_format,
        requires_grad=False,
    )
