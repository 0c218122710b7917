"""Adagrad: each weight's rate falls with the root of the sum of its squared gradients."""

from __future__ import annotations

from kudari.compile.notation import Expr, Step, hyper, rule, sqrt, state


@rule(
    name="Adagrad",
    source=(
        "Duchi, Hazan, Singer 2011, Adaptive Subgradient Methods for Online Learning and Stochastic "
        "Optimization"
    ),
    sparse=True,
    positional=("foreach",),
    differs=("eps is added outside the root, as in torch.",),
    typical="lr 1e-2; sparse features and embeddings",
)
def adagrad(
    p: Expr,
    g: Expr,
    s: Expr = state("sum", non_negative=True, init="initial_accumulator_value", full_precision=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-2, at_least=0),
    lr_decay: Expr = hyper(0.0, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    initial_accumulator_value: Expr = hyper(0.0, at_least=0),
    eps: Expr = hyper(1e-10, at_least=0),
) -> Step:
    """Divide the gradient by the root of the sum of all its squares so far."""
    g = g + weight_decay * p
    rate = lr / (1 + (t - 1) * lr_decay)
    s_t = s + g**2
    return Step(p=p - rate * g / (sqrt(s_t) + eps), s=s_t)
