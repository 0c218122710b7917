"""The eigenvectors of factors, followed from step to step by one power iteration and a QR decomposition.

Vyas et al. 2024, SOAP, algorithm 4. What is kept in the basis (SOAP's second moment) is reordered with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.compile.stage import Stage, one_by_one

if TYPE_CHECKING:
    from torch import Tensor


def renew(
    bases: list[Tensor | None], v: Tensor, factors: list[Tensor | None], first: float
) -> tuple[list[Tensor | None], Tensor]:
    """Bring each basis up to its factor.

    Args:
        bases: orthonormal columns, largest eigenvalue first; written to.
        v: in the bases.
        factors: symmetric.
        first: 1 to decompose the factors anew, 0 to improve the bases there are.

    Returns:
        The bases, and v with its dimensions in the new order of the columns.
    """
    import torch

    for i, (basis, factor) in enumerate(zip(bases, factors, strict=True)):
        if basis is None or factor is None:
            continue
        if first:
            basis.copy_(torch.linalg.eigh(factor).eigenvectors.flip(1))
            continue
        power = factor @ basis
        order = (basis * power).sum(0).argsort(descending=True)
        v = v.index_select(i, order)
        basis.copy_(torch.linalg.qr(power.index_select(1, order)).Q)
    return bases, v


eigenbasis = Stage(
    "eigenbasis",
    one_by_one(renew),
    values=("Q", "v", "L"),
    numbers=("first",),
    changes=2,
    costs="a product and a QR decomposition of each factor, when it is due",
    latex=r"\operatorname{{eigenbasis}}({L}, {Q})",
)
