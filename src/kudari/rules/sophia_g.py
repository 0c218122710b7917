"""SophiaG: momentum over an estimate of the curvature, clipped; the estimate squares gradients."""

from __future__ import annotations

from kudari.compile.notation import Expr, Step, clip, ema, hyper, maximum, rule, state


def hessian_of_gradient(g: Expr, h: Expr, *, betas: tuple[Expr, Expr]) -> Step:
    """Average the squares of gradients of a loss on labels sampled from the model (Gauss-Newton-Bartlett)."""
    return Step(h=ema(h, g**2, betas[1]))


@rule(
    name="SophiaG",
    source=(
        "Liu et al. 2023, Sophia: A Scalable Stochastic Second-order Optimizer for Language Model "
        "Pre-training, algorithms 2 and 3"
    ),
    formulas={"hessian_of_gradient": hessian_of_gradient},
    differs=("The denominator is max(rho*bs*h, eps), as in the paper; the authors' code adds 1e-15.",),
    typical="lr as AdamW, rho 0.03 to 0.08 so that 10 to 50 % of entries are not clipped, weight_decay 0.2",
)
def sophia_g(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    h: Expr = state("hessian", non_negative=True, changed_by="hessian_of_gradient"),
    *,
    t: Expr,
    lr: Expr = hyper(1e-4, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.965, 0.99), at_least=0, below=1),
    rho: Expr = hyper(0.04, at_least=0),
    weight_decay: Expr = hyper(0.1, at_least=0),
    eps: Expr = hyper(1e-12, at_least=0),
    bs: Expr = hyper(5120, above=0),
) -> Step:
    """Divide the momentum by the curvature and clip; where no curvature is known, take the sign."""
    m_t = ema(m, g, betas[0])
    u = clip(m_t / maximum(rho * bs * h, eps), -1, 1)
    return Step(p=(1 - lr * weight_decay) * p - lr * u, m=m_t)
