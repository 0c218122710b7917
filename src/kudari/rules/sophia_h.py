"""SophiaH: momentum over an estimate of the curvature, clipped; the estimate multiplies by the Hessian."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, clip, ema, hyper, maximum, option, rule, state


def hessian_of_estimate(g: Expr, h: Expr, *, betas: tuple[Expr, Expr]) -> Step:
    """Average Hutchinson's estimates z*(Hz) of the Hessian's diagonal; g stands for the estimate."""
    return Step(h=ema(h, g, betas[1]))


@rule(
    name="SophiaH",
    source=(
        "Liu et al. 2023, Sophia: A Scalable Stochastic Second-order Optimizer for Language Model "
        "Pre-training, algorithms 1 and 3"
    ),
    formulas={"hessian_of_estimate": hessian_of_estimate},
    differs=(
        "Probes are +1 and -1 by default, which is exact for a diagonal Hessian; the paper's are gaussian.",
        "With maximize the estimate is negated too, since the curvature is that of the negated loss.",
    ),
    typical="lr as AdamW, rho 0.01 so that 10 to 50 % of entries are not clipped, weight_decay 0.2",
)
def sophia_h(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    h: Expr = state("hessian", changed_by="hessian_of_estimate"),
    *,
    t: Expr,
    lr: Expr = hyper(1e-4, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.965, 0.99), at_least=0, below=1),
    rho: Expr = hyper(0.01, at_least=0),
    weight_decay: Expr = hyper(0.1, at_least=0),
    eps: Expr = hyper(1e-12, at_least=0),
    probe: Any = option("rademacher", "rademacher", "gaussian", keyword_only=True),
) -> Step:
    """Divide the momentum by the curvature and clip; where it is not positive, take the sign."""
    m_t = ema(m, g, betas[0])
    u = clip(m_t / maximum(rho * h, eps), -1, 1)
    return Step(p=(1 - lr * weight_decay) * p - lr * u, m=m_t)
