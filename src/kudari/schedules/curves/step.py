"""Decay in equal steps."""

from kudari.compile.notation import Expr, floor
from kudari.schedules.curve import Number, curve, length, number, steps
from kudari.schedules.length import LengthLike


@curve(
    source="He et al. 2016, Deep Residual Learning, section 4 (divide by 10 in equal intervals); torch StepLR"
)
def step(
    t: Expr,
    T: Expr,
    every: LengthLike = length("30%"),
    gamma: Number = number(0.1, above=0, at_most=1, symbol=r"\gamma"),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """Multiply by gamma once in a while: gamma to the power of the intervals that have passed.

    Example:
        >>> step(30, 0.5).factor(60, total_steps=90)
        0.25
    """
    return gamma ** floor(t / steps(every))
