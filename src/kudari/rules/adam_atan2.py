"""AdamAtan2: Adam whose quotient is an arc tangent: bounded, without eps, blind to the gradient's scale."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, atan2, ema, hyper, option, rule, sqrt, state


@rule(
    name="AdamAtan2",
    source="Everett et al. 2024, Scaling Exponents Across Parameterizations and Optimizers, section 4.3",
    typical="lr as AdamW; a = 1.27 makes the first step about lr*sign(g)",
)
def adam_atan2(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-4, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.99), at_least=0, below=1),
    weight_decay: Expr = hyper(0.0, at_least=0),
    a: Expr = hyper(1.27, at_least=0),
    b: Expr = hyper(1.0, at_least=0),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Take the angle between the two moments in place of their quotient."""
    b1, b2 = betas
    m_t = ema(m, g, b1)
    v_t = ema(v, g**2, b2)
    m_hat = m_t / (1 - b1**t)
    v_hat = v_t / (1 - b2**t)
    u = a * atan2(m_hat, sqrt(b**2 * v_hat))
    if cautious:
        u = agreeing(u, g, sign_of=m_t)
    return Step(p=(1 - lr * weight_decay) * p - lr * u, m=m_t, v=v_t)
