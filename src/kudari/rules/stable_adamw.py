"""StableAdamW: AdamW that takes a smaller step where the second moment lags behind the gradient."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    agreeing,
    ema,
    hyper,
    maximum,
    mean,
    option,
    rule,
    sqrt,
    state,
)  # fmt: skip


@rule(
    name="StableAdamW",
    source=(
        "Wortsman et al. 2023, Stable and low-precision training for large-scale vision-language models, "
        "algorithm 2"
    ),
    differs=("Decay is at the reduced rate too; the stored averages are the corrected ones.",),
    typical="as AdamW, without gradient clipping",
)
def stable_adamw(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.99), at_least=0, below=1),
    eps: Expr = hyper(1e-6, at_least=0),
    weight_decay: Expr = hyper(1e-2, at_least=0),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Divide the rate by the root mean square of gradient over second moment where that is above 1."""
    b1, b2 = betas
    m_t = ema(m, g, b1 * (1 - b1 ** (t - 1)) / (1 - b1**t))
    v_t = ema(v, g**2, b2 * (1 - b2 ** (t - 1)) / (1 - b2**t))
    k = lr / maximum(1, sqrt(mean(g**2 / maximum(v_t, eps**2))))
    u = m_t / (sqrt(v_t) + eps)
    if cautious:
        u = agreeing(u, g, sign_of=m_t)
    return Step(p=(1 - k * weight_decay) * p - k * u, m=m_t, v=v_t)
