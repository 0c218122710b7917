"""RAdam: Adam that takes plain momentum steps until its second moment can be trusted."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, ema, hyper, option, rule, sqrt, state, where


@rule(
    name="RAdam",
    source="Liu et al. 2020, On the Variance of the Adaptive Learning Rate and Beyond, algorithm 2",
    differs=(
        "The second moment is trusted where r > 5, as in torch and the authors' code; the paper has r > 4.",
        "eps is added to the uncorrected root, as in torch.",
    ),
    typical="lr 1e-3, betas (0.9, 0.999): the first five steps are momentum SGD",
)
def radam(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.999), at_least=0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    decoupled_weight_decay: Any = option(False),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Adam's step times a rectification that grows with the number of gradients seen."""
    b1, b2 = betas
    if decoupled_weight_decay:
        p = (1 - lr * weight_decay) * p
    else:
        g = g + weight_decay * p
    m_t = ema(m, g, b1)
    v_t = ema(v, g**2, b2)
    m_hat = m_t / (1 - b1**t)
    r8 = 2 / (1 - b2) - 1
    r = r8 - 2 * t * b2**t / (1 - b2**t)
    rectify = sqrt((r - 4) * (r - 2) * r8 / ((r8 - 4) * (r8 - 2) * r)) * sqrt(1 - b2**t)
    u = where(r > 5, rectify * m_hat / (sqrt(v_t) + eps), m_hat)
    if cautious:
        u = agreeing(u, g, sign_of=m_t)
    return Step(p=p - lr * u, m=m_t, v=v_t)
