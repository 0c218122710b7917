"""Adadelta: steps in the units of the weights, from running means of squared gradients and squared steps."""

from __future__ import annotations

from kudari.compile.notation import Expr, Step, ema, hyper, rule, sqrt, state


@rule(
    name="Adadelta",
    source="Zeiler 2012, ADADELTA: An Adaptive Learning Rate Method, algorithm 1",
    positional=("foreach",),
    differs=("The step is multiplied by lr, which the paper does not have; 1 is the paper.",),
    typical="lr 1, rho 0.9 to 0.95",
)
def adadelta(
    p: Expr,
    g: Expr,
    s: Expr = state("square_avg", non_negative=True),
    a: Expr = state("acc_delta", non_negative=True),
    *,
    t: Expr,
    lr: Expr = hyper(1.0, at_least=0),
    rho: Expr = hyper(0.9, at_least=0, at_most=1),
    eps: Expr = hyper(1e-6, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
) -> Step:
    """Scale the gradient by the root mean square of past steps over that of past gradients."""
    g = g + weight_decay * p
    s_t = ema(s, g**2, rho)
    d = sqrt(a + eps) / sqrt(s_t + eps) * g
    a_t = ema(a, d**2, rho)
    return Step(p=p - lr * d, s=s_t, a=a_t)
