"""Decay at chosen steps."""

from kudari.compile.expression import Expr, lift
from kudari.compile.notation import where
from kudari.schedules.curve import Number, curve, length, lengths, number
from kudari.schedules.length import LengthLike


@curve(source="He et al. 2016, Deep Residual Learning, section 4.2 (at 50 % and 75 %); torch MultiStepLR")
def multi_step(
    t: Expr,
    T: Expr,
    at: tuple[LengthLike, ...] = lengths("50%", "75%"),
    gamma: Number = number(0.1, above=0, at_most=1, symbol=r"\gamma"),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """Multiply by gamma at every milestone.

    Example:
        >>> multi_step((30, 80), 0.5).factor(80, total_steps=90)
        0.25
    """
    factor = lift(1.0)
    for milestone in at:
        factor = factor * where(t >= milestone, gamma, 1.0)  # type: ignore[operator]  # numbers by now
    return factor
