"""Newton-Schulz: the nearest matrix with orthonormal rows or columns, by matrix products alone.

Jordan et al. 2024, Muon. A matrix ``u`` with singular values ``s`` becomes one with the same singular vectors
and values near 1: ``X = u / max(|u|, eps)``, then ``steps`` times ``A = X X^T, X = a*X + (b*A + c*A*A) X``. A
tensor with more than two dimensions is taken as ``shape[0]`` rows.

A long matrix (columns at least twice the rows) is multiplied less often: ``X`` stays what it is while ``A``
and the product of the polynomials, both small and square, go on. ``A`` has the squares of the singular
values, in which rounding grows twelvefold a step, so after three steps ``X`` is multiplied and ``A`` computed
afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kudari.compile.stage import Stage, Work

if TYPE_CHECKING:
    from torch import Tensor

# Matrices below so many elements are stacked: one product of many costs less than many calls.
STACKED = 65536
# Columns for each row from which on the products of small matrices cost less; steps before a fresh start.
LONG, FRESH = 2, 3


def orthogonal(x: Tensor, coefficients: tuple[float, float, float], eps: float, steps: int) -> Tensor:
    """The polar factor of a matrix or of a stack of them, roughly: singular values between 0.7 and 1.2.

    Args:
        x: (..., rows, columns), in the dtype of the arithmetic.
        coefficients: of the polynomial.
        eps: the least norm to divide by.
        steps: how often the polynomial is applied.

    Returns:
        A new tensor of the same shape and dtype.
    """
    import torch

    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    if x.shape[-1] >= LONG * x.shape[-2] and x.dtype in (torch.float32, torch.float64):
        for done in range(0, steps, FRESH):
            x = _polynomials(x @ x.mT, coefficients, min(FRESH, steps - done)) @ x
    else:
        a = coefficients[0]
        for _ in range(steps):
            gram = x @ x.mT
            x = _add_product(x, _polynomial(gram, coefficients), x, a, 1.0)
    return x if wide else x.mT


def _polynomials(gram: Tensor, coefficients: tuple[float, float, float], steps: int) -> Tensor:
    """What a matrix with this product with itself is multiplied by in so many steps."""
    a = coefficients[0]
    product = None
    for left in range(steps, 0, -1):
        factor = _polynomial(gram, coefficients)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        if left > 1:
            gram = factor @ gram @ factor
    assert product is not None
    return product


def _polynomial(gram: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """b*A + c*A*A."""
    _, b, c = coefficients
    return _add_product(gram, gram, gram, b, c)


def _add_product(x: Tensor, y: Tensor, z: Tensor, beta: float, alpha: float) -> Tensor:
    """beta*x + alpha*(y z), for matrices and stacks of them."""
    add = x.addmm if x.ndim == 2 else x.baddbmm
    return add(y, z, beta=beta, alpha=alpha)


def _rows(u: Tensor) -> Tensor:
    """A tensor as a matrix with ``shape[0]`` rows; one number is a matrix of one element."""
    return u.reshape(u.shape[0] if u.ndim else 1, -1)


def run(works: Sequence[Work]) -> list[tuple[Tensor, ...]]:
    """Orthogonalise every tensor; small ones of one shape in a stack."""
    import torch

    sorts: dict[tuple[object, ...], list[int]] = {}
    for i, work in enumerate(works):
        u = work.values[0]
        many = u.numel() < STACKED or u.device.type != "cpu"
        sorts.setdefault((_rows(u).shape, u.dtype, u.device, work.numbers, many or i), []).append(i)
    found: dict[int, Tensor] = {}
    for members in sorts.values():
        first = works[members[0]]
        a, b, c, eps, steps = first.numbers
        dtype = getattr(torch, first.variant) if first.variant else first.values[0].dtype
        flat = [_rows(works[i].values[0]).to(dtype) for i in members]
        x = torch.stack(flat) if len(flat) > 1 else flat[0]
        o = orthogonal(x, (a, b, c), eps, int(steps))
        for i, part in zip(members, o.unbind() if len(flat) > 1 else [o], strict=True):
            found[i] = part.reshape(works[i].values[0].shape)
    return [(found[i],) for i in range(len(works))]


newton_schulz = Stage(
    "newton_schulz",
    run,
    values=("u",),
    numbers=("a", "b", "c", "eps", "steps"),
    costs="steps*(4*m*m*n + 2*m*m*m) flops",
    latex=r"\operatorname{{NS}}_{{{steps}}}({u})",
)
