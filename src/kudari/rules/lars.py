"""LARS: momentum SGD whose step, for each tensor, is a small share of the tensor's own length."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, hyper, minimum, norm, option, rule, state, where


@rule(
    name="LARS",
    source="You, Gitman, Ginsburg 2017, Large Batch Training of Convolutional Networks, algorithm 1",
    differs=(
        "A tensor or gradient of length 0, or trust_coefficient=None, takes plain momentum SGD's step.",
    ),
    typical="lr 4 to 30 with warmup at large batch, weight_decay 1e-4 to 5e-5",
)
def lars(
    p: Expr,
    g: Expr,
    b: Expr | None = state("momentum_buffer", when="momentum"),
    *,
    lr: Expr = hyper(0.1, at_least=0),
    momentum: Expr = hyper(0.9, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    trust_coefficient: Expr | None = hyper(0.001, at_least=0, optional=True, symbol=r"\kappa"),
    eps: Expr = hyper(0.0, at_least=0),
    nesterov: Any = option(False),
    variant: Any = option("paper", "paper", "post", "larc", keyword_only=True),
) -> Step:
    """Scale each tensor's decayed gradient to a share of the tensor's norm, then add momentum."""
    s = g + weight_decay * p
    if trust_coefficient is not None:
        length, size = norm(p), norm(g)
        q = where(
            minimum(length, size) > 0,
            trust_coefficient * length / (size + weight_decay * length + eps),
            1.0,
        )
        if variant == "larc":
            q = where(lr > 0, minimum(q / lr, 1.0), 1.0)
        s = q * s
    if b is None:
        return Step(p=p - lr * s)
    if variant == "paper":
        b_t = momentum * b + lr * s
        return Step(p=p - (lr * s + momentum * b_t if nesterov else b_t), b=b_t)
    b_t = momentum * b + s
    return Step(p=p - lr * (s + momentum * b_t if nesterov else b_t), b=b_t)
