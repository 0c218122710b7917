"""The decay at the end of a run."""

import math

from kudari.compile.notation import Expr, cos, sqrt
from kudari.schedules.curve import Number, between, choice, curve, length, number
from kudari.schedules.length import LengthLike


@curve(
    source="Hägele et al. 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed Durations, section 4"
)
def cooldown(
    t: Expr,
    T: Expr,
    length: LengthLike | None = length("20%"),
    *,
    floor: Number = number(0.0, at_least=0, at_most=1, symbol=r"\eta_{\min}"),
    shape: str = choice("1-sqrt", "1-sqrt", "linear", "cosine"),
) -> Expr:
    """From 1 down to the floor: ``1-sqrt`` (the paper's best), ``linear`` or ``cosine``.

    Example:
        >>> cooldown("100%", shape="1-sqrt").factor(25, total_steps=100)
        0.5
    """
    x = t / T
    shapes = {"1-sqrt": 1 - sqrt(x), "linear": 1 - x, "cosine": (1 + cos(math.pi * x)) / 2}
    return between(floor, 1.0, shapes[shape])
