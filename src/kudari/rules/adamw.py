"""AdamW: Adam whose weight decay acts on the weights and not through the moments."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, ema, hyper, maximum, option, rule, sqrt, state


@rule(
    name="AdamW",
    source="Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization, algorithm 2",
    differs=("The decay rate is lr*weight_decay, so it follows the schedule of lr, as in torch.",),
    typical="transformers: lr 3e-4, betas (0.9, 0.95), weight_decay 0.1",
    fixed={"decoupled_weight_decay": True},  # as in torch, whose AdamW is an Adam; so its Adam reads ours
)
def adamw(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    x: Expr = state("max_exp_avg_sq", when="amsgrad", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.999), at_least=0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(1e-2, at_least=0),
    amsgrad: Any = option(False),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Shrink the weights a little, then take Adam's step."""
    b1, b2 = betas
    m_t = ema(m, g, b1)
    v_t = ema(v, g**2, b2)
    x_t = maximum(x, v_t) if amsgrad else None
    m_hat = m_t / (1 - b1**t)
    v_hat = (v_t if x_t is None else x_t) / (1 - b2**t)
    u = m_hat / (sqrt(v_hat) + eps)
    if cautious:
        u = agreeing(u, g, sign_of=m_t)
    p_t = (1 - lr * weight_decay) * p - lr * u
    return Step(p=p_t, m=m_t, v=v_t, x=x_t)
