"""A constant factor."""

from kudari.compile.expression import Expr, lift
from kudari.schedules.curve import Number, curve, length, number
from kudari.schedules.length import LengthLike


@curve(source="torch ConstantLR is constant(factor, length=total_iters) >> constant()")
def constant(
    t: Expr,
    T: Expr,
    value: Number = number(1.0, at_least=0, symbol="c"),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """The same factor at every step.

    Example:
        >>> constant(0.5).factor(7)
        0.5
    """
    return lift(value)
