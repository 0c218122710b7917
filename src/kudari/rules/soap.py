"""SOAP: Adam in the eigenbasis of Shampoo's factors, which turns slowly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kudari.compile.codecs import SMALLEST_CODED
from kudari.compile.notation import (
    Expr,
    Step,
    divides,
    ema,
    factors,
    hyper,
    kind,
    maximum,
    option,
    rule,
    sqrt,
    state,
    where,
)  # fmt: skip
from kudari.compile.stages.eigenbasis import eigenbasis
from kudari.compile.stages.gram import gram
from kudari.compile.stages.modes import rotate, rotate_back, sizes

# How far beyond what gradients can have made of the two moments their ratio may be, squared: the basis turns.
SLACK = 4.0


def _basis(shape: tuple[int, ...], group: Mapping[str, Any]) -> str:
    """Whether a tensor is turned, and whether its averages are kept in fewer bits than 32."""
    if not any(sizes(shape, group)):
        return "own"
    wanted = group.get("state_dtype", "fp32")
    coded = wanted != "fp32" and (wanted == "bf16" or math.prod(shape) >= SMALLEST_CODED)
    return "turned_short" if coded else "turned"


def _most(b1: Expr, b2: Expr, k: Expr) -> Expr:
    """The largest m^2/v that k gradients can make, by the inequality of Cauchy and Schwarz."""
    x = b1**2 / maximum(b2, 1e-12)
    powers = where(abs(x - 1) < 1e-6, k, (x**k - 1) / (x - 1))  # the sum of x^i, i < k
    return (1 - b1) ** 2 / (1 - b2) * powers


@rule(
    name="SOAP",
    source="Vyas et al. 2024, SOAP: Improving and Stabilizing Shampoo using Adam, algorithm 3",
    differs=(
        "The first gradient only fills the factors and their basis: nothing moves.",
        "exp_avg is kept in the parameter's own basis, which is the same and can be resharded.",
        "With states in fewer bits, directions in which it is larger than gradients can have made it are "
        "left out of the step: that is a rounding error, which would be divided by eps.",
    ),
    typical="lr 3e-3, betas (0.95, 0.95), precondition_frequency 10 to 50",
)
def soap(
    p: Expr,
    g: Expr,
    m: Expr = state("exp_avg"),
    v: Expr = state("exp_avg_sq", non_negative=True),
    L: Expr = factors("GG", sizes),
    Q: Expr = factors("Q", sizes, init="identity"),
    *,
    t: Expr,
    lr: Expr = hyper(3e-3, at_least=0),
    betas: tuple[Expr, Expr] = hyper((0.95, 0.95), at_least=0, below=1),
    shampoo_beta: Expr = hyper(-1.0, below=1),
    eps: Expr = hyper(1e-8, at_least=0),
    weight_decay: Expr = hyper(0.01, at_least=0),
    precondition_frequency: Expr = hyper(10, at_least=1, keyword_only=True),
    max_precond_dim: Expr = hyper(10000, at_least=0, keyword_only=True),
    precondition_1d: Any = option(False, keyword_only=True),
    correct_bias: Any = option(True, keyword_only=True),
    basis: Any = kind(
        _basis,
        turned="tensors with a factor",
        turned_short="those with states in fewer bits",
        own="0-d and 1-d tensors, and those with no dimension up to max_precond_dim",
    ),
) -> Step:
    """Take Adam's step in a basis where the curvature is nearly diagonal."""
    b1, b2 = betas
    k = t - 1
    first = k <= 0
    m_t = where(first, m, ema(m, g, b1))
    r, q = (rotate(g, Q), rotate(m_t, Q)) if basis != "own" else (g, m_t)
    v_new = where(first, v, ema(v, r**2, b2))
    n = q / (sqrt(v_new) + eps)
    if basis == "turned_short":
        most = _most(b1, b2, k) * v_new
        n = where(q**2 <= SLACK * most, n, 0 * n)  # not 0, so that NaN shows
    u = rotate_back(n, Q) if basis != "own" else n
    f = sqrt(1 - b2**k) / (1 - b1**k) if correct_bias else 1
    p_t = where(first, p, (1 - lr * weight_decay) * (p - lr * f * u))
    if basis == "own":
        return Step(p=p_t, m=m_t, v=v_new, L=L, Q=Q)
    bs = where(shampoo_beta < 0, b2, maximum(shampoo_beta, 0))
    L_t = gram(L, g, keep=bs, add=1 - bs)
    due = where(first, 1, divides(precondition_frequency, k))
    Q_t, v_t = eigenbasis(Q, v_new, L_t, first=where(first, 1, 0), when=due)
    return Step(p=p_t, m=m_t, v=v_t, L=L_t, Q=Q_t)
