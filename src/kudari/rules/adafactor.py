"""Adafactor: Adam's second moment from one average for each row and one for each column."""

from __future__ import annotations

from typing import Any

from kudari.compile.notation import (
    Expr,
    Step,
    column_mean,
    hyper,
    kind,
    machine_epsilon,
    maximum,
    mean,
    minimum,
    row_mean,
    rule,
    sqrt,
    state,
)


@rule(
    name="Adafactor",
    source=(
        "Shazeer, Stern 2018, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, algorithms 4 "
        "and 5, as torch reads it"
    ),
    counts=True,
    differs=(
        "eps[0]=None is the machine epsilon of each tensor's own dtype; torch keeps the first tensor's.",
        "The estimate is kept above eps[0]**2, and there is a learning rate; the paper adds 1e-30 to g**2.",
    ),
    typical="lr 1e-2, or a schedule of it; weight_decay 0",
)
def adafactor(
    p: Expr,
    g: Expr,
    R: Expr = state("row_var", when="factored", non_negative=True, shape="rows", full_precision=True),
    C: Expr = state("col_var", when="factored", non_negative=True, shape="columns", full_precision=True),
    v: Expr = state("variance", unless="factored", non_negative=True, full_precision=True),
    *,
    t: Expr,
    lr: Expr = hyper(1e-2, at_least=0),
    beta2_decay: Expr = hyper(-0.8, at_most=0, symbol="c"),
    eps: tuple[Expr | None, Expr] = hyper((None, 1e-3), at_least=0),
    d: Expr = hyper(1.0, at_least=1, symbol="d"),
    weight_decay: Expr = hyper(0.0, at_least=0),
    factored: Any = kind(lambda shape, group: len(shape) >= 2, yes="2-d and up", no="0-d and 1-d"),
) -> Step:
    """Divide the gradient by the root of its second moment's rank-one estimate, and limit the step's size."""
    eps1 = machine_epsilon() if eps[0] is None else eps[0]
    w = t**beta2_decay
    a = maximum(eps[1], sqrt(mean(p**2))) * minimum(lr, 1 / sqrt(t))
    if factored:
        R_t = R + w * (row_mean(g**2) - R)
        C_t = C + w * (column_mean(g**2) - C)
        r = 1 / sqrt(R_t / maximum(column_mean(R_t), eps1))
        c = 1 / sqrt(C_t)
        u = g * minimum(r * c, 1 / eps1)
        new = {"R": R_t, "C": C_t}
    else:
        v_t = v + w * (g**2 - v)
        u = g / sqrt(maximum(v_t, eps1**2))
        new = {"v": v_t}
    rms = sqrt(mean(u**2))
    return Step(p=(1 - lr * weight_decay) * p - a / maximum(1, rms / d) * u, **new)
