"""A tensor multiplied along each of its dimensions by a matrix, where there is one for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kudari.compile.stage import Stage, one_by_one

if TYPE_CHECKING:
    from torch import Tensor


def sizes(shape: tuple[int, ...], group: Mapping[str, Any]) -> tuple[int | None, ...]:
    """The size of the factor of each dimension, None for one without.

    Dimensions up to the group's ``max_precond_dim`` have one; that of a vector only with ``precondition_1d``.
    """
    taken = len(shape) > 1 or group["precondition_1d"]
    return tuple(n if taken and n <= group["max_precond_dim"] else None for n in shape)


def multiply(x: Tensor, factors: list[Tensor | None]) -> Tensor:
    """Multiply dimension i by factor i from the left; of a matrix, ``F0 x F1^T``."""
    for i, factor in enumerate(factors):
        if factor is None:
            continue
        if i == x.ndim - 1:
            x = x @ factor.mT
        else:
            x = (factor @ x.flatten(i + 1).flatten(0, i - 1) if i > 1 else factor @ x.flatten(i + 1)).view(
                x.shape
            )
    return x


def multiply_transposed(x: Tensor, factors: list[Tensor | None]) -> Tensor:
    """Multiply dimension i by the transpose of factor i from the left."""
    return multiply(x, [None if f is None else f.mT for f in factors])


_COSTS = "2*(m*m*n + m*n*n) flops"
rotate = Stage(
    "rotate", one_by_one(multiply_transposed), values=("x", "Q"), costs=_COSTS, latex=r"{Q}^{{\top}} {x}"
)
rotate_back = Stage("rotate_back", one_by_one(multiply), values=("x", "Q"), costs=_COSTS, latex=r"{Q} \, {x}")
precondition = Stage(
    "precondition", one_by_one(multiply), values=("x", "R"), costs=_COSTS, latex=r"{R} \, {x}"
)
