"""Cosine decay that begins again."""

import math

from kudari.compile.notation import Expr, cos, floor, log, minimum
from kudari.schedules.curve import Number, between, curve, length, number, steps
from kudari.schedules.length import LengthLike


@curve(
    source="Loshchilov & Hutter 2016, SGDR: Stochastic Gradient Descent with Warm Restarts, equation 5",
    differs=(
        "A period that ends with the curve ends on the floor; it does not restart after the last step.",
    ),
)
def cosine_restarts(
    t: Expr,
    T: Expr,
    period: LengthLike = length("20%"),
    mult: Number = number(1.0, at_least=1, symbol="m"),
    *,
    low: Number = number(0.0, at_least=0, at_most=1, symbol=r"\eta_{\min}"),
    length: LengthLike | None = length(None),
) -> Expr:
    """Half cosine waves from 1 to ``low``, each ``mult`` times as long as the one before.

    Example:
        >>> cosine_restarts(10).factor(10, total_steps=100)
        1.0
    """
    first = steps(period)
    last = _last_cycle(T, first, mult)
    if isinstance(mult, float) and mult == 1:
        x = t / first - _at_most(floor(t / first), last)
    else:
        # 1e-9 is far above the rounding of log and far below one step of any run.
        cycle = _at_most(floor(log(t / first * (mult - 1) + 1) / log(mult) + 1e-9), last)
        begin = first * (mult**cycle - 1) / (mult - 1)
        x = (t - begin) / (first * mult**cycle)
    return between(low, 1.0, (1 + cos(math.pi * x)) / 2)


def _at_most(cycle: Expr, last: int | None) -> Expr:
    return cycle if last is None else minimum(cycle, last)


def _last_cycle(total: object, first: object, mult: object) -> int | None:
    """The cycle in which the curve ends, None if its length is not known."""
    if not (isinstance(total, int) and isinstance(first, float) and isinstance(mult, float)):
        return None
    cycle, end, size = 0, first, first
    while end < total:
        size *= mult
        end += size
        cycle += 1
    return cycle
