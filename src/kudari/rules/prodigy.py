"""Prodigy: Adam that estimates its own learning rate from how far the weights have come."""

from __future__ import annotations

import math
from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    hyper,
    maximum,
    minimum,
    model_sum,
    option,
    rule,
    running,
    sqrt,
    state,
    where,
)


@rule(
    name="Prodigy",
    source=(
        "Mishchenko, Defazio 2023, Prodigy: An Expeditiously Adaptive Parameter-Free Learner, algorithm 4, "
        "and the authors' code"
    ),
    frozen=lambda group: float(group["lr"]) == 0,
    shared=("lr",),
    requires=(
        (
            lambda h: float(h["slice_p"]).is_integer(),
            "slice_p={slice_p!r} is not allowed; expected a whole number, slice_p >= 1",
        ),
    ),
    differs=(
        "A group with lr=0 is frozen entirely; in the authors' code it still decays.",
        "Coupled decay is part of the gradient from the start, so it is in the estimate too.",
    ),
    typical="lr 1 with a cosine schedule, d_coef 0.5 to 2",
)
def prodigy(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    s: Expr = state("s", every="slice_p", full_precision=True),
    p0: Expr = state("p0", init="copy", every="slice_p", full_precision=True),
    *,
    t: Expr,
    lr: Expr = hyper(1.0, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.999), at_least=0, below=1),
    beta3: Expr | None = hyper(None, at_least=0, below=1, optional=True, symbol=r"\beta_3"),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    decouple: Any = option(True),
    use_bias_correction: Any = option(False),
    safeguard_warmup: Any = option(False),
    d0: Expr = hyper(1e-6, above=0, symbol="d_0"),
    d_coef: Expr = hyper(1.0, at_least=0, symbol="c"),
    growth_rate: Expr = hyper(math.inf, at_least=1, symbol=r"\gamma"),
    slice_p: Expr = hyper(1, at_least=1, keyword_only=True),
    d: Expr = running("d0"),
    d_max: Expr = running("d0"),
    d_numerator: Expr = running(0.0),
    k: Expr = running(0),
) -> Step:
    """Take Adam's step on d times the gradient, where d grows with the distance from the start."""
    b1, b2 = betas
    b3 = sqrt(b2) if beta3 is None else beta3
    e = d * lr
    if use_bias_correction:
        e = e * sqrt(1 - b2 ** (k + 1)) / (1 - b1 ** (k + 1))
    if not decouple:
        g = g + weight_decay * p
    N = b3 * d_numerator + model_sum(d / d0 * e * (g * (p0 - p)))
    m_t = b1 * m + (1 - b1) * d * g
    v_t = b2 * v + (1 - b2) * d**2 * g**2
    s_t = b3 * s + d / d0 * (d if safeguard_warmup else e) * g
    S = model_sum(abs(s_t))
    d_hat = d_coef * N / S
    far = maximum(d_max, d_hat)
    grown = where(d <= d0, maximum(d, d_hat), d)
    d_t = minimum(far, grown * growth_rate)
    u = m_t / (sqrt(v_t) + d_t * eps)
    p_t = (1 - e * weight_decay) * p - e * u if decouple else p - e * u
    idle = S <= 0
    return Step(
        p=where(idle, p, p_t),
        m=m_t,
        v=v_t,
        s=s_t,
        p0=p0,
        d=where(idle, d, d_t),
        d_max=where(idle, d_max, far),
        d_numerator=N,
        k=where(idle, k, k + 1),
    )
