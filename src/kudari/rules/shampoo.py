"""Shampoo: gradients multiplied by inverse roots of their covariances, dimension by dimension."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    divides,
    ema,
    factors,
    hyper,
    kind,
    norm,
    option,
    rule,
    sqrt,
    state,
    where,
)  # fmt: skip
from kudari.compile.stages.gram import gram
from kudari.compile.stages.inverse_roots import inverse_roots
from kudari.compile.stages.modes import precondition, sizes


@rule(
    name="Shampoo",
    source=(
        "Gupta, Koren, Singer 2018, Shampoo: Preconditioned Stochastic Tensor Optimization; grafting and "
        "damping: Anil et al. 2020, Scalable Second Order Optimization for Deep Learning"
    ),
    differs=("The 2018 paper: betas=(0, 1), damping='absolute', grafting=None, frequency and start 1.",),
    typical="AdamW's lr with grafting='adam', precondition_frequency 10 to 100",
    requires=(
        (lambda h: h["betas"][0] < 1, "betas[0]={betas[0]!r} is not allowed; expected 0 <= betas[0] < 1"),
    ),
)
def shampoo(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    L: Expr = factors("factors", sizes),
    R: Expr = factors("roots", sizes, init="identity"),
    v: Expr | None = state("exp_avg_sq", when="second", non_negative=True),
    b: Expr | None = state("momentum_buffer", when="momentum"),
    *,
    t: Expr,
    lr: Expr = hyper(1e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.9, 0.999), at_least=0, at_most=1),
    eps: Expr = hyper(1e-6, at_least=0),
    weight_decay: Expr = hyper(0.0, at_least=0),
    momentum: Expr = hyper(0.0, at_least=0),
    nesterov: Any = option(False),
    decoupled_weight_decay: Any = option(True, keyword_only=True),
    damping: Any = option("relative", "relative", "absolute", keyword_only=True),
    grafting: Any = option("adam", "adam", "adagrad", "sgd", None, keyword_only=True),
    grafting_eps: Expr = hyper(1e-8, at_least=0, keyword_only=True),
    precondition_frequency: Expr = hyper(10, at_least=1, keyword_only=True),
    start_preconditioning_step: Expr = hyper(10, at_least=1, keyword_only=True),
    max_precond_dim: Expr = hyper(1024, at_least=0, keyword_only=True),
    precondition_1d: Any = option(False, keyword_only=True),
    turned: Any = kind(
        lambda shape, group: any(sizes(shape, group)),
        yes="tensors with a factor",
        no="0-d and 1-d tensors, and those with no dimension up to max_precond_dim",
    ),
    second: Any = kind(
        lambda shape, group: group["grafting"] in ("adam", "adagrad"),
        yes="grafting adam or adagrad",
        no="grafting sgd or None",
    ),
) -> Step:
    """Step along the averaged gradient times the roots, as far as the grafted optimizer would go."""
    b1, b2 = betas
    decay = lr * weight_decay if decoupled_weight_decay else 0
    if not decoupled_weight_decay:
        g = g + weight_decay * p
    w, f2 = where(b2 < 1, 1 - b2, 1), where(b2 < 1, 1 - b2**t, 1)
    m_t = ema(m, g, b1)
    m_hat = m_t / (1 - b1**t)
    v_t = None if v is None else v + g**2 if grafting == "adagrad" else b2 * v + w * g**2
    d = m_hat
    if v_t is not None:
        d = m_hat / (sqrt(v_t / f2 if grafting == "adam" else v_t) + grafting_eps)
    if turned:
        begun = t >= start_preconditioning_step
        due = where(t <= start_preconditioning_step, begun, divides(precondition_frequency, t))
        L_t = gram(L, g, keep=b2, add=w)
        R_t = inverse_roots(R, L_t, scale=f2, eps=eps, variant=damping, when=due)
        x = precondition(m_t, R_t, when=begun)
        x_hat = x / (1 - b1**t)
        size = norm(x_hat)
        q = 1 if grafting is None else where(size > 0, norm(d) / size, 1)
        u = where(begun, q * x_hat, d)
    else:
        u, L_t, R_t = d, L, R
    b_t = None if b is None else momentum * b + u
    s = u if b_t is None else u + momentum * b_t if nesterov else b_t
    return Step(p=(1 - decay) * p - lr * s, m=m_t, v=v_t, b=b_t, L=L_t, R=R_t)
