"""Adan: Adam with Nesterov's look-ahead, taken from the change between two gradients."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, ema, hyper, option, rule, sqrt, state, where


@rule(
    name="Adan",
    source="Xie et al. 2022, Adan: Adaptive Nesterov Momentum Algorithm, algorithm 1",
    differs=(
        "betas weigh the past, as in the authors' code; the paper's are one minus ours.",
        "All three averages are bias-corrected, as in the authors' code.",
    ),
    typical="lr 5 to 10 times AdamW's, weight_decay 0.02",
)
def adan(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    n: Expr = state("exp_avg_sq", non_negative=True),
    e: Expr = state("exp_avg_diff"),
    y: Expr = state("neg_pre_grad"),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    betas: tuple[Expr, Expr, Expr] = hyper((0.98, 0.92, 0.99), at_least=0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    no_prox: Any = option(False),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Average gradients and their changes; y is the last gradient, negated."""
    b1, b2, b3 = betas
    d = where(t <= 1, 0, g + y)
    m_t = ema(m, g, b1)
    e_t = ema(e, d, b2)
    n_t = ema(n, (g + b2 * d) ** 2, b3)
    both = m_t / (1 - b1**t) + b2 * e_t / (1 - b2**t)
    u = both / (sqrt(n_t / (1 - b3**t)) + eps)
    if cautious:
        u = agreeing(u, g, sign_of=both)
    decay = lr * weight_decay
    p_t = (1 - decay) * p - lr * u if no_prox else (p - lr * u) / (1 + decay)
    return Step(p=p_t, m=m_t, n=n_t, e=e_t, y=-g)
