"""AdEMAMix: Adam with a second, much slower momentum mixed in."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    agreeing,
    ema,
    exp,
    hyper,
    log,
    minimum,
    option,
    rule,
    sqrt,
    state,
    where,
)


@rule(
    name="AdEMAMix",
    source=(
        "Pagliardini, Ablin, Grangier 2024, The AdEMAMix Optimizer: Better, Faster, Older, algorithm 1; "
        "schedulers of section 3"
    ),
    typical="alpha 5 to 8, beta3_warmup and alpha_warmup the total number of steps",
)
def ademamix(
    p: Expr,
    g: Expr,
    m1: Expr = state("exp_avg_fast"),
    m2: Expr = state("exp_avg_slow"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    betas: tuple[Expr, Expr, Expr] = hyper((0.9, 0.999, 0.9999), at_least=0, below=1),
    alpha: Expr = hyper(2.0),
    beta3_warmup: Expr | None = hyper(None, at_least=0, optional=True),
    alpha_warmup: Expr | None = hyper(None, at_least=0, optional=True),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Add a long memory of gradients to Adam's short one."""
    b1, b2, b3 = betas
    slow = b3
    if beta3_warmup is not None:  # the half-life, not b3 itself, grows linearly
        done = t / beta3_warmup
        h = (1 - done) / log(b1) + done / log(b3)
        slow = where(t < beta3_warmup, minimum(b3, exp(1 / h)), b3)
    a = alpha if alpha_warmup is None else minimum(t / alpha_warmup, 1) * alpha
    m1_t = ema(m1, g, b1)
    m2_t = ema(m2, g, slow)
    v_t = ema(v, g**2, b2)
    v_hat = v_t / (1 - b2**t)
    both = m1_t / (1 - b1**t) + a * m2_t
    u = both / (sqrt(v_hat) + eps)
    if cautious:
        u = agreeing(u, g, sign_of=both)
    return Step(p=(1 - lr * weight_decay) * p - lr * u, m1=m1_t, m2=m2_t, v=v_t)
