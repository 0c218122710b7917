"""MARS: AdamW on a gradient that is corrected by its change since the last step, and kept to length one."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    agreeing,
    ema,
    hyper,
    kind,
    maximum,
    norm,
    option,
    rule,
    sqrt,
    state,
    where,
)


@rule(
    name="MARS",
    source=(
        "Yuan et al. 2024, MARS: Unleashing the Power of Variance Reduction for Training Large Models, "
        "algorithm 3, the approximate AdamW instance"
    ),
    differs=(
        "The first step has no change to correct by, as in the paper; the authors' code starts from zero.",
        "eps is added after the bias correction, as in the paper.",
    ),
    typical="a 125M language model: lr 6e-3, lr_1d_factor 0.5, weight_decay 0.01",
)
def mars(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    y: Expr = state("last_grad", when="corrected"),
    x: Expr = state("max_exp_avg_sq", when="amsgrad", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(3e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.95, 0.99), at_least=0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    amsgrad: Any = option(False),
    gamma: Expr = hyper(0.025, at_least=0),
    optimize_1d: Any = option(False, keyword_only=True),
    lr_1d_factor: Expr = hyper(1.0, at_least=0, keyword_only=True),
    betas_1d: tuple[Expr, Expr] = hyper((0.9, 0.95), at_least=0, below=1, keyword_only=True),
    weight_decay_1d: Expr = hyper(0.1, at_least=0, keyword_only=True),
    cautious: Any = option(False, keyword_only=True),
    corrected: Any = kind(
        lambda shape, group: len(shape) >= 2 or group["optimize_1d"],
        yes="2-d and up, or optimize_1d",
        no="0-d and 1-d",
    ),
) -> Step:
    """Add a share of the gradient's change, shorten the result to at most one, and take AdamW's step."""
    if corrected:
        b1, b2 = betas
        h = g + gamma * b1 / (1 - b1) * where(t <= 1, 0, g - y)
        c = h / maximum(1, norm(h))
        rate, decay = lr, weight_decay
    else:
        b1, b2 = betas_1d
        c, rate, decay = g, lr * lr_1d_factor, weight_decay_1d
    m_t = ema(m, c, b1)
    v_t = ema(v, c**2, b2)
    x_t = maximum(x, v_t) if amsgrad else None
    m_hat = m_t / (1 - b1**t)
    v_hat = (v_t if x_t is None else x_t) / (1 - b2**t)
    u = m_hat / (sqrt(v_hat) + eps)
    if cautious:
        u = agreeing(u, g, sign_of=m_t)
    p_t = (1 - rate * decay) * p - rate * u
    return Step(p=p_t, m=m_t, v=v_t, x=x_t, y=g if corrected else None)
