"""A rise that needs no end: the exponential warmup of Adam."""

from kudari.compile.notation import Expr, exp
from kudari.schedules.curve import curve, length, steps
from kudari.schedules.length import LengthLike


@curve(
    source="Ma & Yarats 2021, On the Adequacy of Untuned Warmup for Adaptive Optimization, section 4",
    differs=("A factor for products: exponential_warmup(1000) * cosine().",),
)
def exponential_warmup(
    t: Expr,
    T: Expr,
    timescale: LengthLike = length(1000),
    *,
    length: LengthLike | None = length(None),
) -> Expr:
    """Approach 1 as ``1 - exp(-(t+1)/timescale)``; the paper's timescale is 1/(1 - beta2).

    Example:
        >>> round(exponential_warmup(100).factor(99), 3)
        0.632
    """
    return 1 - exp(-(t + 1) / steps(timescale))
