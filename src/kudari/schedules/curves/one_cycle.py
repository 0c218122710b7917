"""One cycle: up to a large learning rate, then far down."""

import math

from kudari.compile.notation import Expr, cos, where
from kudari.schedules.curve import Number, between, check_within, choice, curve, length, number, steps
from kudari.schedules.length import LengthLike


@curve(
    source="Smith & Topin 2017, Super-Convergence; two phases with cosines as in fastai and torch OneCycleLR",
    differs=(
        "torch OneCycleLR(total_steps=N, pct_start=q) ends one step earlier and is "
        "one_cycle(up=q*N-1, length=N-1).",
        "Momentum is scheduled like any hyper-parameter: also={'momentum': ...}.",
    ),
)
def one_cycle(
    t: Expr,
    T: Expr,
    up: LengthLike = length("30%"),
    *,
    start: Number = number(0.04, at_least=0, at_most=1, symbol="a"),
    end: Number = number(4e-6, at_least=0, at_most=1, symbol="b"),
    shape: str = choice("cosine", "cosine", "linear"),
    three_phase: bool = choice(False),
    length: LengthLike | None = length(None),
) -> Expr:
    """Rise from ``start`` to 1, then fall to ``end``.

    With ``three_phase`` the fall goes back to ``start`` in as many steps as the rise, then to ``end``.

    Example:
        >>> one_cycle().factor(30, total_steps=100)
        1.0
    """
    rise = steps(up)

    def move(a: Number, b: Number, x: Expr) -> Expr:
        return between(b, a, 1 - x if shape == "linear" else (1 + cos(math.pi * x)) / 2)

    climb = move(start, 1.0, t / rise)
    if three_phase:
        check_within("one_cycle", "2 * up", 2 * rise, T)
        back = move(1.0, start, (t - rise) / rise)
        fall = move(start, end, (t - 2 * rise) / (T - 2 * rise))
        return where(t <= rise, climb, where(t <= 2 * rise, back, fall))
    check_within("one_cycle", "up", rise, T)
    return where(t <= rise, climb, move(1.0, end, (t - rise) / (T - rise)))
