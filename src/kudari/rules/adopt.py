"""ADOPT: Adam that normalises each gradient before averaging, by the moments of earlier steps alone."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    agreeing,
    clip,
    ema,
    hyper,
    maximum,
    option,
    rule,
    sqrt,
    state,
    where,
)


@rule(
    name="ADOPT",
    source=(
        "Taniguchi et al. 2024, ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate, "
        "algorithm 2"
    ),
    differs=(
        "The first gradient only fills the second moment: nothing moves, decoupled decay included.",
        "Normalised gradients are clipped at (t-1)**clip_exp, as in the authors' code.",
    ),
    typical="lr 1e-3, betas (0.9, 0.9999), eps 1e-6",
)
def adopt(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.9999), at_least=0, below=1),
    eps: Expr = hyper(1e-6, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    decoupled_weight_decay: Any = option(False),
    clip_exp: Expr | None = hyper(0.25, at_least=0, keyword_only=True, optional=True),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Average the gradients, each divided by the root mean square of those before it."""
    b1, b2 = betas
    decay = 1 - lr * weight_decay if decoupled_weight_decay else 1
    if not decoupled_weight_decay:
        g = g + weight_decay * p
    n = g / maximum(sqrt(v), eps)
    bound = None if clip_exp is None else (t - 1) ** clip_exp
    c = n if bound is None else clip(n, -bound, bound)
    first = t <= 1
    m_t = where(first, m, ema(m, c, b1))
    v_t = where(first, g**2, ema(v, g**2, b2))
    u = m_t
    if cautious:
        u = agreeing(m_t, g)
    return Step(p=where(first, p, decay * p - lr * u), m=m_t, v=v_t)
