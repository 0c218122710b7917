"""Exponential decay."""

from kudari.compile.notation import Expr
from kudari.schedules.curve import Number, curve, length, number, steps
from kudari.schedules.length import LengthLike


@curve(source="torch ExponentialLR is exponential(gamma, every=1)")
def exponential(
    t: Expr,
    T: Expr,
    gamma: Number = number(0.01, above=0, symbol=r"\gamma"),
    *,
    every: LengthLike | None = length(None),
    length: LengthLike | None = length(None),
) -> Expr:
    """Multiply by gamma in every interval, smoothly; by default once over the whole curve.

    Example:
        >>> exponential(0.25).factor(50, total_steps=100)
        0.5
    """
    return gamma ** (t / (T if every is None else steps(every)))
