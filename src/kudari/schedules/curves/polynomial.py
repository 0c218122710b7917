"""Polynomial decay."""

from kudari.compile.notation import Expr
from kudari.schedules.curve import Number, between, curve, length, number
from kudari.schedules.length import LengthLike


@curve(source="Chen et al. 2017, DeepLab, section 4.1 (the 'poly' policy, power 0.9); torch PolynomialLR")
def polynomial(
    t: Expr,
    T: Expr,
    power: Number = number(1.0, above=0, symbol="k"),
    floor: Number = number(0.0, at_least=0, at_most=1, symbol=r"\eta_{\min}"),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """A power of the time that is left, reaching the floor at step T.

    Example:
        >>> polynomial(2).factor(50, total_steps=100)
        0.25
    """
    left = 1 - t / T
    straight = isinstance(power, float) and power == 1
    return between(floor, 1.0, left if straight else left**power)
