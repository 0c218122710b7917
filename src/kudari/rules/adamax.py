"""Adamax: Adam with the largest recent gradient in place of the root mean square."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, ema, hyper, maximum, option, rule, state


@rule(
    name="Adamax",
    source="Kingma, Ba 2015, Adam: A Method for Stochastic Optimization, section 7, algorithm 2",
    positional=("foreach",),
    differs=("eps is added to the new gradient's size before the maximum, as in torch.",),
    typical="lr 2e-3, betas (0.9, 0.999)",
)
def adamax(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    n: Expr = state("exp_inf", non_negative=True, size=True),
    *,
    t: Expr,
    lr: Expr = hyper(2e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.999), at_least=0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Divide a running mean of the gradient by a slowly fading maximum of its size."""
    b1, b2 = betas
    g = g + weight_decay * p
    m_t = ema(m, g, b1)
    n_t = maximum(b2 * n, abs(g) + eps)
    m_hat = m_t / (1 - b1**t)
    u = m_hat / n_t
    if cautious:
        u = agreeing(u, g, sign_of=m_t)
    return Step(p=p - lr * u, m=m_t, n=n_t)
