"""LAMB: Adam's direction, with a step for each tensor that is a share of the tensor's own length."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    agreeing,
    ema,
    hyper,
    maximum,
    minimum,
    model_sum,
    norm,
    option,
    rule,
    sqrt,
    state,
    where,
)  # fmt: skip


@rule(
    name="LAMB",
    source=(
        "You et al. 2020, Large Batch Optimization for Deep Learning: Training BERT in 76 Minutes, "
        "algorithm 2; lambc: Fong et al. 2020, Improving Layer-wise Adaptive Rate Methods using Trust Ratio "
        "Clipping"
    ),
    differs=(
        "variant='paper' clips nothing beforehand; 'nvlamb' scales all gradients to max_grad_norm first.",
        "Decay is inside the direction whose length is measured, as in the paper.",
    ),
    typical="lr scaled with the root of the batch size (1.8e-3 at 32k), weight_decay 0.01",
)
def lamb(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.999), at_least=0, below=1),
    eps: Expr = hyper(1e-6, at_least=0),
    weight_decay: Expr = hyper(0.01, at_least=0),
    variant: Any = option("paper", "paper", "nvlamb", "lambc", keyword_only=True),
    max_grad_norm: Expr | None = hyper(1.0, at_least=0, optional=True, keyword_only=True),
    bias_correction: Any = option(True, keyword_only=True),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Move every tensor by lr times its own norm, in Adam's direction."""
    b1, b2 = betas
    if variant == "nvlamb" and max_grad_norm is not None:
        g = g / maximum(1, sqrt(model_sum(g * g)) / max_grad_norm)
    m_t = ema(m, g, b1)
    v_t = ema(v, g**2, b2)
    if bias_correction:
        m_hat = m_t / (1 - b1**t)
        v_hat = v_t / (1 - b2**t)
        r = m_hat / (sqrt(v_hat) + eps)
    else:
        r = m_t / (sqrt(v_t) + eps)
    if cautious:
        r = agreeing(r, g, sign_of=m_t)
    u = r + weight_decay * p
    length, size = norm(p), norm(u)
    q = where(minimum(length, size) > 0, length / size, 1.0)
    if variant == "lambc":
        q = minimum(q, 1.0)
    if variant == "nvlamb":
        q = where(weight_decay > 0, q, 1.0)
    return Step(p=p - lr * q * u, m=m_t, v=v_t)
