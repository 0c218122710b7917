"""REX: a decay that stays high and falls late."""

from kudari.compile.notation import Expr
from kudari.schedules.curve import Number, between, curve, length, number
from kudari.schedules.length import LengthLike


@curve(source="Chen, Wolfe & Kyrillidis 2022, REX: Revisiting Budgeted Training, section 3")
def rex(
    t: Expr,
    T: Expr,
    floor: Number = number(0.0, at_least=0, at_most=1, symbol=r"\eta_{\min}"),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """The reflected exponential: ``(1-x) / (1/2 + (1-x)/2)``.

    Example:
        >>> round(rex().factor(50, total_steps=100), 6)
        0.666667
    """
    left = 1 - t / T
    return between(floor, 1.0, left / (0.5 + left / 2))
