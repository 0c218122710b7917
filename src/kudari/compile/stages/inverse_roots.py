"""Inverse roots of factors: ``(L/scale + damping)^(-1/(2k))`` for a tensor with k factors.

Gupta, Koren, Singer 2018, Shampoo; relative damping: Anil et al. 2020, Scalable Second Order Optimization for
Deep Learning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.compile.stage import Stage, one_by_one

if TYPE_CHECKING:
    from torch import Tensor


def renew(
    roots: list[Tensor | None],
    factors: list[Tensor | None],
    scale: float,
    eps: float,
    variant: str = "relative",
) -> list[Tensor | None]:
    """Compute the roots anew.

    Args:
        roots: written to.
        factors: symmetric, eigenvalues not below zero but for rounding.
        scale: what the factors are divided by.
        eps: damping: this share of the largest eigenvalue (``relative``), or this much (``absolute``).
        variant: which.

    Returns:
        The roots; the identity for a factor that is zero.
    """
    import torch

    power = -1 / (2 * sum(factor is not None for factor in factors))
    for root, factor in zip(roots, factors, strict=True):
        if root is None or factor is None:
            continue
        values, vectors = torch.linalg.eigh(factor / scale)
        values = values.clamp(min=0)
        largest = float(values[-1])
        if largest == 0:
            root.copy_(torch.eye(len(root), dtype=root.dtype, device=root.device))
            continue
        values = values + eps * (largest if variant == "relative" else 1.0)
        torch.mm(vectors * values**power, vectors.mT, out=root)
    return roots


inverse_roots = Stage(
    "inverse_roots",
    one_by_one(renew),
    values=("R", "L"),
    numbers=("scale", "eps"),
    costs="an eigendecomposition of each factor, when it is due",
    latex=r"\operatorname{{roots}}({L})",
)
