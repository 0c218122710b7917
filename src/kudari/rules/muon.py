"""Muon: momentum whose matrices are made orthogonal before each step; AdamW for vectors."""

from __future__ import annotations

from math import prod
from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    ema,
    hyper,
    kind,
    maximum,
    measure,
    option,
    rule,
    sqrt,
    state,
)  # fmt: skip
from kudari.compile.stages.newton_schulz import newton_schulz


@rule(
    name="Muon",
    source=(
        "Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks; "
        "Liu et al. 2025, Muon is Scalable for LLM Training"
    ),
    counts="plain",
    differs=(
        "0-d and 1-d tensors, and groups with use_muon=False, take AdamW's step; torch refuses them.",
        "Newton-Schulz runs in float32 (float64 for float64); ns_dtype=torch.bfloat16 is torch's.",
    ),
    typical="lr 0.02 (original) or AdamW's lr and weight_decay (match_rms_adamw), momentum 0.95",
    requires=(
        (
            lambda h: float(h["ns_steps"]).is_integer(),
            "ns_steps={ns_steps!r} is not allowed; expected a whole number, 1 <= ns_steps <= 99",
        ),
    ),
)
def muon(
    p: Expr,
    g: Expr,
    b: Expr = state("momentum_buffer", unless="plain"),
    m: Expr = state("exp_avg", when="plain"),
    v: Expr = state("exp_avg_sq", when="plain", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    weight_decay: Expr = hyper(0.1, at_least=0),
    momentum: Expr = hyper(0.95, at_least=0),
    nesterov: Any = option(True),
    ns_coefficients: tuple[Expr, Expr, Expr] = hyper((3.4445, -4.775, 2.0315)),
    eps: Expr = hyper(1e-7, at_least=0),
    ns_steps: Expr = hyper(5, at_least=1, at_most=99, symbol="n"),
    adjust_lr_fn: Any = option(None, None, "original", "match_rms_adamw"),
    use_muon: Any = option(None, None, True, False, keyword_only=True),
    adamw_lr_ratio: Expr = hyper(1.0, at_least=0, keyword_only=True),
    adamw_betas: tuple[Expr, Expr] = hyper((0.9, 0.95), at_least=0, below=1, keyword_only=True),
    adamw_eps: Expr = hyper(1e-10, at_least=0, keyword_only=True),
    adamw_weight_decay: Expr | None = hyper(None, at_least=0, optional=True, keyword_only=True),
    ns_dtype: Any = option(None, None, "bfloat16", "float16", "float32", "float64", keyword_only=True),
    fan_out: Expr = measure(lambda shape: shape[0] if shape else 1),
    fan_in: Expr = measure(lambda shape: prod(shape[1:])),
    plain: Any = kind(
        lambda shape, group: not group["use_muon"] if group["use_muon"] is not None else len(shape) < 2,
        no="2-d and up, or use_muon=True",
        yes="0-d and 1-d, or use_muon=False",
    ),
) -> Step:
    """Average the gradients and step along the orthogonal matrix nearest to the average."""
    if not plain:
        b_t = ema(b, g, momentum)
        u = (1 - momentum) * g + momentum * b_t if nesterov else b_t
        x, y, z = ns_coefficients
        o = newton_schulz(u, a=x, b=y, c=z, eps=eps, steps=ns_steps, variant=ns_dtype or "")
        c = sqrt(maximum(1, fan_out / fan_in))
        if adjust_lr_fn == "match_rms_adamw":
            c = 0.2 * sqrt(maximum(fan_out, fan_in))
        return Step(p=(1 - lr * weight_decay) * p - lr * c * o, b=b_t)
    b1, b2 = adamw_betas
    m_t = ema(m, g, b1)
    v_t = ema(v, g**2, b2)
    u = m_t / (1 - b1**t) / (sqrt(v_t / (1 - b2**t)) + adamw_eps)
    rate = lr * adamw_lr_ratio
    decay = weight_decay if adamw_weight_decay is None else adamw_weight_decay
    return Step(p=(1 - rate * decay) * p - rate * u, m=m_t, v=v_t)
