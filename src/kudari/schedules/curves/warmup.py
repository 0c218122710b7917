"""The rise to the peak at the beginning of a run."""

from kudari.compile.notation import Expr
from kudari.schedules.curve import Number, between, choice, curve, length, number
from kudari.schedules.length import LengthLike


@curve(
    source="Goyal et al. 2017, Accurate, Large Minibatch SGD, section 2.2 (gradual warmup)",
    differs=(
        "The ramp begins one step before the run, (t+1)/(T+1): no step is spent at a learning rate of 0; "
        "linear(0, 1, length=T) is the ramp t/T of torch and transformers.",
    ),
    requires=(
        (lambda v: v["shape"] != "exponential" or v["start"] > 0, "shape='exponential' needs start above 0."),
    ),
)
def warmup(
    t: Expr,
    T: Expr,
    length: LengthLike | None = length("2%"),
    *,
    start: Number = number(0.0, at_least=0, at_most=1, symbol="a"),
    shape: str = choice("linear", "linear", "exponential"),
) -> Expr:
    """A rise from a fraction of the peak to the peak, which the next schedule begins with.

    ``shape="exponential"`` multiplies by the same number at every step and needs ``start`` above 0.

    Example:
        >>> from kudari.schedules import linear
        >>> (warmup(3) >> linear()).factor(0, total_steps=100)
        0.25
    """
    share = (t + 1) / (T + 1)
    if shape == "exponential":
        return start ** (1 - share)
    return between(start, 1.0, share)
