"""Running averages of Gram matrices: one for each dimension of a tensor that has a factor.

Gupta, Koren, Singer 2018, Shampoo. The Gram matrix of dimension i is ``G G^T`` with ``G`` the tensor unfolded
to ``shape[i]`` rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.compile.stage import Stage, one_by_one

if TYPE_CHECKING:
    from torch import Tensor


# Rows of a factor computed together on the CPU: enough for products at full speed, few enough that
# little of what lies above the diagonal is computed.
BLOCK = 128


def average(factors: list[Tensor | None], g: Tensor, keep: float, add: float) -> list[Tensor | None]:
    """Each factor becomes ``keep * factor + add * Gram matrix``, where it is."""
    for i, factor in enumerate(factors):
        if factor is not None:
            _average(factor, g.movedim(i, 0).reshape(g.shape[i], -1), keep, add)
    return factors


def _average(factor: Tensor, rows: Tensor, keep: float, add: float) -> None:
    """One factor, block of rows by block: what lies above the diagonal is copied, not computed."""
    block = BLOCK if factor.device.type == "cpu" else max(1, len(factor))
    for start in range(0, len(factor), block):
        end = start + block
        factor[start:end, :end].addmm_(rows[start:end], rows[:end].mT, beta=keep, alpha=add)
        factor[:start, start:end] = factor[start:end, :start].mT


gram = Stage(
    "gram",
    one_by_one(average),
    values=("L", "g"),
    numbers=("keep", "add"),
    costs="2*(m*m*n + m*n*n) flops",
    latex=r"{keep} \, {L} + {add} \, \operatorname{{gram}}({g})",
)
