"""From values to places on an axis, and which values to name there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kudari.report.numbers import minus, superscript

LOG_FROM = 30.0
"""An axis is logarithmic where the largest value is this many times the smallest."""


LARGEST = 1e100
"""Values beyond are drawn at the end of the axis: their differences would overflow."""

SMALLEST = 1e-100
"""Values below this are drawn at the low end of a logarithmic axis."""


@dataclass(frozen=True)
class Scale:
    """An axis from ``low`` to ``high``, linear or logarithmic.

    Attributes:
        low, high: values at its two ends, ``low < high``; both above 0 if ``log``.
        log: whether equal steps are equal ratios.
        share: whether ticks are written in percent.
    """

    low: float
    high: float
    log: bool = False
    share: bool = False

    def place(self, value: float) -> float:
        """Where a finite value lies, 0 at ``low`` and 1 at ``high``; values outside are put at the ends."""
        if self.log:
            if value <= 0:
                return 0.0
            at = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            at = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, at))

    def ticks(self, wanted: int = 5) -> list[tuple[float, str]]:
        """About ``wanted`` round values inside the axis, with their labels."""
        if self.log:
            return log_ticks(self.low, self.high, wanted)
        values, decimals = linear_ticks(self.low, self.high, wanted)
        if self.share:
            return [(v, f"{100 * v:.{max(0, decimals - 2)}f} %") for v in values]
        return [(v, tick_label(v, decimals)) for v in values]


def tick_label(value: float, decimals: int) -> str:
    """A round value written short: thousands separated, powers of ten where it would be long.

    Example:
        >>> tick_label(0.25, 2), tick_label(20000.0, 0), tick_label(2e-05, 5), tick_label(3e6, 0)
        ('0.25', '20k', '2×10⁻⁵', '3M')
    """
    size = abs(value)
    if size == 0:
        return "0"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            factor = 1e3 if letter == "k" else unit
            return minus(f"{value / factor:.6g}{letter}")
    if size < 1e-3 - 1e-12:
        mantissa, exponent = f"{value:.2e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        power = f"10{superscript(int(exponent))}"
        return minus(power if mantissa == "1" else f"{mantissa}×{power}")
    return minus(f"{value:,.{decimals}f}")


def linear_ticks(low: float, high: float, wanted: int) -> tuple[list[float], int]:
    """Multiples of 1, 2 or 5 times a power of ten between two values, and the decimals they need.

    Example:
        >>> linear_ticks(0.0, 1.0, 5)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], 1)
    """
    raw = (high - low) / max(1, wanted)
    power = math.floor(math.log10(raw))
    steps = [m * 10.0**k for k in (power - 1, power, power + 1) for m in (1, 2, 5)]
    # The first step that is not too fine, or the one before it where that would leave fewer than four.
    at = next(i for i, step in enumerate(steps) if raw <= step * 1.0001)
    if math.floor(high / steps[at] + 1e-9) - math.ceil(low / steps[at] - 1e-9) < 3:
        at -= 1
    step = steps[at]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [
        round(i * step, decimals + 2) if decimals < 12 else i * step for i in range(first, last + 1)
    ], decimals


def log_ticks(low: float, high: float, wanted: int) -> list[tuple[float, str]]:
    """Powers of ten between two values above 0, with 2 and 5 between them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**k for k in range(first, last + 1) if low * 0.999 <= 10.0**k <= high * 1.001]
    if len(decades) >= 3:
        keep = decades[:: math.ceil(len(decades) / (wanted + 1))]
    else:
        fine = [m * 10.0**k for k in range(first, last + 1) for m in (1, 2, 5)]
        keep = [v for v in fine if low * 0.999 <= v <= high * 1.001]
    return [(v, tick_label(v, max(0, -math.floor(math.log10(v) + 1e-9)))) for v in keep]


def value_scale(values: Iterable[float], *, share: bool = False, from_zero: bool = False) -> Scale:
    """The axis for a set of values: logarithmic where they span decades, else linear with round air.

    Args:
        values: any floats; those that are not finite are ignored.
        share: values are fractions read in percent; never logarithmic and never beyond 0 and 1.
        from_zero: the axis is linear and begins at 0 (learning rates, throughput).
    """
    finite = [v for v in values if abs(v) <= LARGEST]
    if not finite:
        return Scale(0.0, 1.0, share=share)
    low, high = min(finite), max(finite)
    if not share and not from_zero and low > 0 and high >= LOG_FROM * max(low, SMALLEST):
        low = max(low, SMALLEST)
        ratio = (high / low) ** 0.04
        return Scale(low / ratio, high * ratio, log=True)
    space = air(low, high)
    if low >= 0 and (from_zero or low < 0.3 * high):
        bottom = 0.0
    else:
        bottom = max(0.0, low - space) if share else low - space
    return Scale(bottom, min(1.0, high + space) if share else high + space, share=share)


def air(low: float, high: float) -> float:
    """Room to leave beyond the outermost values; a tenth of the value where all are (nearly) the same."""
    size = max(abs(low), abs(high))
    if high - low > max(1e-9 * size, SMALLEST):
        return 0.06 * (high - low)
    return 0.1 * size if size > SMALLEST else 1.0


def step_scale(steps: Iterable[float]) -> Scale:
    """The axis of optimizer steps, from the first logged to the last."""
    known = list(steps)
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    low = 0.0 if low <= 0.1 * high else low
    return Scale(low, high if high > low else low + 1.0)
