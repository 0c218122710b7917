"""SOAP: Adam in the eigenbasis of Shampoo's factors, which turns slowly."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    divides,
    ema,
    factors,
    hyper,
    kind,
    maximum,
    option,
    rule,
    sqrt,
    state,
    where,
)  # fmt: skip
from kudari.compile.stages.eigenbasis import eigenbasis
from kudari.compile.stages.gram import gram
from kudari.compile.stages.modes import rotate, rotate_back, sizes


@rule(
    name="SOAP",
    source="Vyas et al. 2024, SOAP: Improving and Stabilizing Shampoo using Adam, algorithm 3",
    differs=(
        "The first gradient only fills the factors and their basis: nothing moves.",
        "exp_avg is kept in the parameter's own basis, which is the same and can be resharded; always in "
        "float32, because a rounding error that turns into a direction without gradients is divided by eps.",
    ),
    typical="lr 3e-3, betas (0.95, 0.95), precondition_frequency 10 to 50",
)
def soap(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg", full_precision=True),
    v: Expr = state("exp_avg_sq", non_negative=True),
    L: Expr = factors("GG", sizes),
    Q: Expr = factors("Q", sizes, init="identity"),
    *,
    t: Expr,
    lr: Expr = hyper(3e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.95, 0.95), at_least=0, below=1),
    shampoo_beta: Expr = hyper(-1.0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.01, at_least=0),
    precondition_frequency: Expr = hyper(10, at_least=1, keyword_only=True),
    max_precond_dim: Expr = hyper(10000, at_least=0, keyword_only=True),
    precondition_1d: Any = option(False, keyword_only=True),
    correct_bias: Any = option(True, keyword_only=True),
    turned: Any = kind(
        lambda shape, group: any(sizes(shape, group)),
        yes="tensors with a factor",
        no="0-d and 1-d tensors, and those with no dimension up to max_precond_dim",
    ),
) -> Step:
    """Take Adam's step in a basis where the curvature is nearly diagonal."""
    b1, b2 = betas
    k = t - 1
    first = k <= 0
    m_t = where(first, m, ema(m, g, b1))
    r, q = (rotate(g, Q), rotate(m_t, Q)) if turned else (g, m_t)
    v_new = where(first, v, ema(v, r**2, b2))
    n = q / (sqrt(v_new) + eps)
    u = rotate_back(n, Q) if turned else n
    f = sqrt(1 - b2**k) / (1 - b1**k) if correct_bias else 1
    p_t = where(first, p, (1 - lr * weight_decay) * (p - lr * f * u))
    if not turned:
        return Step(p=p_t, m=m_t, v=v_new, L=L, Q=Q)
    bs = where(shampoo_beta < 0, b2, maximum(shampoo_beta, 0))
    L_t = gram(L, g, keep=bs, add=1 - bs)
    due = where(first, 1, divides(precondition_frequency, k))
    Q_t, v_t = eigenbasis(Q, v_new, L_t, first=where(first, 1, 0), when=due)
    return Step(p=p_t, m=m_t, v=v_t, L=L_t, Q=Q_t)
