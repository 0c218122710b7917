"""Adam: steps of similar size for every weight, from the first two moments of its gradients."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, ema, hyper, maximum, option, rule, sqrt, state


@rule(
    name="Adam",
    source=(
        "Kingma, Ba 2015, Adam: A Method for Stochastic Optimization, algorithm 1; "
        "amsgrad: Reddi, Kale, Kumar 2018, On the Convergence of Adam and Beyond, algorithm 2"
    ),
    differs=(
        "amsgrad keeps the maximum of the uncorrected second moment, as in torch.",
        "weight_decay is added to the gradient; AdamW decays the weights themselves.",
    ),
    typical="lr 1e-3 for small models, 1e-4 to 3e-4 for large ones",
)
def adam(
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
    weight_decay: Expr = hyper(0.0, at_least=0),
    amsgrad: Any = option(False),
    decoupled_weight_decay: Any = option(False, keyword_only=True),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Divide a running mean of the gradient by the root of its running mean square."""
    b1, b2 = betas
    if decoupled_weight_decay:
        p = (1 - lr * weight_decay) * p
    else:
        g = g + weight_decay * p
    m_t = ema(m, g, b1)
    v_t = ema(v, g**2, b2)
    x_t = maximum(x, v_t) if amsgrad else None
    m_hat = m_t / (1 - b1**t)
    v_hat = (v_t if x_t is None else x_t) / (1 - b2**t)
    u = m_hat / (sqrt(v_hat) + eps)
    if cautious:
        u = agreeing(u, g, sign_of=m_t)
    return Step(p=p - lr * u, m=m_t, v=v_t, x=x_t)
