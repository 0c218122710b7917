"""Inverse square root decay."""

from kudari.compile.notation import Expr, sqrt
from kudari.schedules.curve import curve, length, steps
from kudari.schedules.length import LengthLike


@curve(
    source="Vaswani et al. 2017, Attention Is All You Need, equation 3, after its warmup",
    differs=("Begins at 1 after a warmup of the same number of steps: warmup(4000) >> inverse_sqrt(4000).",),
)
def inverse_sqrt(
    t: Expr,
    T: Expr,
    timescale: LengthLike = length("2%"),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """Fall with the square root of time; never ends, so the run may go on.

    Example:
        >>> inverse_sqrt(100).factor(300)
        0.5
    """
    return sqrt(steps(timescale) / (steps(timescale) + t))
