"""Cyclical learning rates: up and down between two bounds."""

from kudari.compile.expression import Expr, lift
from kudari.compile.notation import floor, minimum
from kudari.schedules.curve import Number, between, choice, curve, length, number, steps
from kudari.schedules.length import LengthLike


@curve(
    source="Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3; torch CyclicLR",
    differs=("Momentum is scheduled like any hyper-parameter: also={'momentum': ...}.",),
)
def cyclic(
    t: Expr,
    T: Expr,
    up: LengthLike = length("10%"),
    down: LengthLike | None = length(None),
    *,
    low: Number = number(0.25, at_least=0, at_most=1, symbol="a"),
    mode: str = choice("triangular", "triangular", "triangular2", "exp_range"),
    gamma: Number = number(0.99994, above=0, at_most=1, symbol=r"\gamma"),
    length: LengthLike | None = length(None),
) -> Expr:
    """Triangles between ``low`` and 1.

    ``mode="triangular2"`` halves the height after every cycle; ``"exp_range"`` multiplies it by ``gamma`` at
    every step. ``down`` is as long as ``up`` unless given.

    Example:
        >>> cyclic(10, low=0.5).factor(5, total_steps=100)
        0.75
    """
    rise = steps(up)
    fall = rise if down is None else steps(down)
    period = rise + fall
    cycle = floor(t / period)
    inside = t - cycle * period
    triangle = minimum(inside / rise, (period - inside) / fall)
    height = {"triangular": lift(1.0), "triangular2": 0.5**cycle, "exp_range": gamma**t}[mode]
    return between(low, 1.0, triangle * height)
