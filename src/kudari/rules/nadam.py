"""NAdam: Adam that looks one momentum step ahead, with a momentum that warms up."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, ema, hyper, option, rule, sqrt, state


@rule(
    name="NAdam",
    source="Dozat 2016, Incorporating Nesterov Momentum into Adam",
    differs=(
        "The product of the momenta is kept in float64; torch keeps it in float32.",
        "weight_decay is added to the gradient unless decoupled_weight_decay is set, as in torch.",
    ),
    typical="lr 2e-3, betas (0.9, 0.999)",
)
def nadam(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    M: Expr = state("mu_product", scalar=True, init=1.0),
    *,
    t: Expr,
    lr: Expr = hyper(2e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.999), at_least=0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    momentum_decay: Expr = hyper(4e-3, at_least=0),
    decoupled_weight_decay: Any = option(False),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Mix the next step's momentum with this step's gradient, each with its own bias correction."""
    b1, b2 = betas
    if decoupled_weight_decay:
        p = (1 - lr * weight_decay) * p
    else:
        g = g + weight_decay * p
    mu = b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = b1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    M_t = M * mu
    m_t = ema(m, g, b1)
    v_t = ema(v, g**2, b2)
    m_hat = mu_next * m_t / (1 - M_t * mu_next) + (1 - mu) * g / (1 - M_t)
    v_hat = v_t / (1 - b2**t)
    u = m_hat / (sqrt(v_hat) + eps)
    if cautious:
        u = agreeing(u, g, sign_of=m_hat)
    return Step(p=p - lr * u, m=m_t, v=v_t, M=M_t)
