"""A straight line."""

from kudari.compile.notation import Expr
from kudari.schedules.curve import Number, between, curve, length, number
from kudari.schedules.length import LengthLike


@curve(source="torch LinearLR is linear(start_factor, end_factor, length=total_iters)")
def linear(
    t: Expr,
    T: Expr,
    start: Number = number(1.0, at_least=0, symbol="a"),
    end: Number = number(0.0, at_least=0, symbol="b"),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """A straight line from one factor to another, reached at step T.

    Example:
        >>> linear(1, 0.5).factor(50, total_steps=100)
        0.75
    """
    if isinstance(start, float) and start == 0:
        return end * (t / T)
    return between(end, start, 1 - t / T)
