"""Lion: every weight moves by the same amount, in the direction of a momentum."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import Expr, Step, agreeing, ema, hyper, option, rule, sign, state


@rule(
    name="Lion",
    source="Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, algorithm 2",
    typical="a third to a tenth of AdamW's lr, 3 to 10 times its weight_decay",
)
def lion(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    *,
    lr: Expr = hyper(1e-4, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.99), at_least=0, below=1),
    weight_decay: Expr = hyper(0.0, at_least=0),
    cautious: Any = option(False, keyword_only=True),
) -> Step:
    """Take the sign of a mix of momentum and gradient."""
    b1, b2 = betas
    u = sign(b1 * m + (1 - b1) * g)
    m_t = ema(m, g, b2)
    if cautious:
        u = agreeing(u, g)
    p_t = (1 - lr * weight_decay) * p - lr * u
    return Step(p=p_t, m=m_t)
