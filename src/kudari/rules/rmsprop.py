"""RMSprop: the gradient over its running root mean square, with momentum and centring."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, ema, hyper, maximum, option, rule, sqrt, state


@rule(
    name="RMSprop",
    source=(
        "Tieleman, Hinton 2012, Neural Networks for Machine Learning, lecture 6.5; "
        "centered: Graves 2013, Generating Sequences With Recurrent Neural Networks, equations 38 to 45"
    ),
    positional=("capturable", "foreach", "maximize", "differentiable"),
    differs=(
        "eps is added outside the root and the mean square starts at zero, as in torch.",
        "The centered variance is held at zero where rounding would make it negative; torch gives NaN there.",
    ),
    typical="lr 1e-3 to 1e-2, alpha 0.9 to 0.99; the first step is lr/sqrt(1 - alpha) in size",
)
def rmsprop(
    p: Expr,
    g: Expr,
    v: Expr = state("square_avg", non_negative=True),
    b: Expr | None = state("momentum_buffer", when="momentum"),
    a: Expr | None = state("grad_avg", when="centered"),
    *,
    t: Expr,
    lr: Expr = hyper(1e-2, at_least=0),
    alpha: Expr = hyper(0.99, at_least=0),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    momentum: Expr = hyper(0.0, at_least=0),
    centered: Any = option(False),
) -> Step:
    """Divide the gradient by the root of its running mean square, or of its running variance."""
    g = g + weight_decay * p
    v_t = ema(v, g**2, alpha)
    a_t = None if a is None else ema(a, g, alpha)
    spread = v_t if a_t is None else maximum(v_t - a_t**2, 0)
    u = g / (sqrt(spread) + eps)
    b_t = None if b is None else momentum * b + u
    return Step(p=p - lr * (u if b_t is None else b_t), v=v_t, b=b_t, a=a_t)
