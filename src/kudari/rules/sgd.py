"""Stochastic gradient descent, with momentum and Nesterov's look-ahead."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, hyper, option, rule, state, where


@rule(
    name="SGD",
    source=(
        "Robbins, Monro 1951, A Stochastic Approximation Method; "
        "Sutskever et al. 2013, On the importance of initialization and momentum in deep learning"
    ),
    counts=False,
    sparse=True,
    differs=("The first momentum buffer is the gradient itself, not dampened, as in torch.",),
    typical="lr 0.1, momentum 0.9, weight_decay 1e-4 to 5e-4 for image models",
    requires=(
        (
            lambda h: not h["nesterov"] or (h["momentum"] > 0 and h["dampening"] == 0),
            "nesterov=True is not allowed; expected momentum > 0 and dampening = 0 with nesterov",
        ),
        (
            lambda h: not h["cautious"] or h["momentum"] > 0,
            "cautious=True is not allowed; expected momentum > 0 with cautious",
        ),
    ),
)
def sgd(
    p: Expr,
    g: Expr,
    b: Expr | None = state("momentum_buffer", when="momentum"),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    momentum: Expr = hyper(0.0, at_least=0),
    dampening: Expr = hyper(0.0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    nesterov: Any = option(False),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Follow the gradient, or a running sum of gradients."""
    g = g + weight_decay * p
    if b is None:
        return Step(p=p - lr * g)
    b_t = where(t <= 1, g, momentum * b + (1 - dampening) * g)
    u = g + momentum * b_t if nesterov else b_t
    if cautious:
        u = agreeing(u, g)
    return Step(p=p - lr * u, b=b_t)
