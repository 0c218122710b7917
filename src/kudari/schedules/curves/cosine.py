"""Half a cosine wave."""

import math

from kudari.compile.notation import Expr, cos
from kudari.schedules.curve import Number, between, curve, length, number
from kudari.schedules.length import LengthLike


@curve(
    source="Loshchilov & Hutter 2016, SGDR: Stochastic Gradient Descent with Warm Restarts, equation 5",
    differs=("torch CosineAnnealingLR rises again after T_max; this holds the floor.",),
)
def cosine(
    t: Expr,
    T: Expr,
    floor: Number = number(0.0, at_least=0, at_most=1, symbol=r"\eta_{\min}"),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """Half a cosine wave from 1 down to the floor, reached at step T.

    Example:
        >>> round(cosine(floor=0.1).factor(50, total_steps=100), 12)
        0.55
    """
    return between(floor, 1.0, (1 + cos(math.pi * t / T)) / 2)
