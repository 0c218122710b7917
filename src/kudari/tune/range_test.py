"""The learning-rate range test: one training under a rate that grows by a constant factor each step.

It says between which rates training works at all. It does not say which of them is best for a whole run: its
minimum is that of a run of a few dozen steps that never settles, so short trials decide between its ends.

Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from kudari.tune.step_shape import StepShape
from kudari.tune.trial import Trials

STEPS_PER_DECADE = 30
"""At fewer steps a decade the loss reacts to rates that are long past when it shows."""

WIDEST = 3.5
"""Decades that are scanned at most. A scan that begins lower learns there, and its basin, whose middle is
what counts, grows downwards: on the tasks of ``make bench-tune`` 4.5 decades are worse than 2.5."""

LARGEST_MOVE = 1.0
"""Where the scan expects to end: one step as long as the weights are large."""

BEYOND = 1.5
"""Decades the scan goes on where it has not diverged there and steps are left."""

SMOOTHING = 4.0
"""Standard deviation, in steps, of the window that smooths the losses. Centred: no lag (zero phase)."""

BASIN = 0.3
"""Share of the fall that may be lost again at the edges of the basin. On a flat and noisy curve the place of
the minimum is mostly noise; the middle between two steep edges is not."""

LENGTH_POWER = (0.15, 0.4)
"""How the best rate falls with the length of a run, as a power of it, a range test being a run of
:attr:`RangeTest.length` steps.

The first number is for optimizers whose step follows the size of the gradient (SGD): the end of stability
decides, and it hardly moves. The second is for steps that ignore it (Adam, Lion, Muon): they do not shrink as
training converges, so they wander at the end in proportion to the rate, and more steps reach as far with
smaller ones. Measured on tasks of ``make bench-tune``.
"""

UNSEEN = 10.0
"""Where no fall is seen in the noise, the middle is taken to be so much below the rate that diverged: too low
costs less than too high."""

PLATEAU = 0.2
"""Where fall and noise together are a smaller share of the loss than this, training has hardly begun, and the
basin of steps that follow the gradient begins wherever a bias was learned. The smaller they are, the more
the other end counts."""

EDGE = (0.7, 0.9)
"""How many decades below the rate that diverged the edge is taken to be: without memory, and how many more
with all of it (momentum of 1), where divergence shows late. On average the best rate lies 0.35 below, give
or take 0.4; beyond it a run is lost."""


@dataclass(frozen=True)
class RangeTest:
    """What the scan saw.

    Attributes:
        rates, losses, smoothed: one of each for every step, up to divergence.
        low: rate from which on the smoothed loss falls; the start of the scan where it fell at once.
        best: rate at the minimum of the smoothed loss.
        middle: middle of the basin around it, over log rate.
        high: rate at which training diverged, or the last one tried.
        diverged: whether it did.
        drop: fall of the smoothed loss from the start to the minimum.
        noise: standard deviation of the losses around the smoothed ones.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    low: float
    best: float
    middle: float
    high: float
    diverged: bool
    drop: float
    noise: float

    @property
    def seen(self) -> bool:
        """Whether the loss fell by more than its noise."""
        return self.drop > self.noise

    @property
    def fall(self) -> float:
        """Its drop, as a share of the loss at the start."""
        return self.drop / max(abs(self.smoothed[0]), 1e-12)

    @property
    def length(self) -> float:
        """Steps in which the rate grows e-fold: the scan is near each rate for about so long."""
        return 1.0 / math.log(self.rates[1] / self.rates[0])

    def on_plateau(self, step: StepShape) -> float:
        """How much the edge counts, 0 to 1: the more the less was learned before it diverged.

        0 where enough was learned, where noise does not let it be told, and where steps ignore the gradient.
        """
        if not self.diverged:
            return 0.0
        share = (self.drop + self.noise) / max(abs(self.smoothed[0]), 1e-12)
        return max(0.0, 1.0 - share / PLATEAU) * (1.0 - step.ignores)

    def suggests(self, steps: int, step: StepShape) -> float:
        """For a run of ``steps``: the middle brought down to its length, on a plateau nearer the edge."""
        low, high = LENGTH_POWER
        power = low + (high - low) * step.ignores
        middle = self.middle * float((self.length / steps) ** power)
        plain, more = EDGE
        edge = self.high / float(10.0 ** (plain + more * step.memory))
        at = self.on_plateau(step)
        return float(middle ** (1.0 - at) * max(middle, edge) ** at)


def range_test(trials: Trials, most_steps: int, moved: float) -> RangeTest:
    """Scan upwards until training diverges.

    Args:
        trials: of the user's run.
        most_steps: to spend, 30 or more.
        moved: length of a step at the optimizer's own rate, as a share of the weights'.

    Returns:
        The :class:`RangeTest`; every loss in it is finite.
    """
    start = first_rate(trials, min(WIDEST, most_steps / STEPS_PER_DECADE), moved)
    limit = min(most_steps, math.ceil(STEPS_PER_DECADE * (WIDEST + BEYOND)))

    def factor(step: int) -> float:
        return float(10.0 ** (step / STEPS_PER_DECADE))

    trace = trials.run(start, limit, factor=factor, stop=has_diverged)
    losses = [value for value in trace.losses if math.isfinite(value)]
    rates = [start * factor(i) for i in range(len(losses))]
    diverged = trace.broke or has_diverged(losses)
    return _read(rates, losses, diverged)


def first_rate(trials: Trials, decades: float, moved: float) -> float:
    """The rate whose steps move the weights by 10**-decades of their own size, once averages are filled.

    What a rate means differs by a factor of thousands between optimizers, and, for plain gradient steps, with
    the scale of loss and data. How far the weights move does not.
    """
    if not (math.isfinite(moved) and moved > 0):
        return trials.lr * float(10.0**-decades)
    return trials.lr * LARGEST_MOVE * float(10.0**-decades) / moved


def has_diverged(losses: Sequence[float]) -> bool:
    """Whether the newest losses are far above the lowest: most of what was learned is lost again.

    Example:
        >>> has_diverged([2.3] * 5 + [1.0] * 5 + [2.0] * 5), has_diverged([2.3, 2.2, 2.1] * 5)
        (True, False)
    """
    if len(losses) < 10:
        return False
    now, first = median(losses[-5:]), fmean(losses[:5])
    if not math.isfinite(now):
        return True
    lowest = min(fmean(losses[i : i + 5]) for i in range(len(losses) - 4))
    jumps = [abs(b - a) for a, b in pairwise(losses[:-5])]
    noise = 1.4826 * median(jumps) / math.sqrt(2)
    if now - lowest <= 3 * noise:  # the lowest of many means of five is low by chance, by about one
        return False
    gained = first - lowest
    if gained > max(0.1 * abs(first), 2 * noise):
        return now > lowest + 0.5 * gained or now > 4 * lowest > 0
    return now > first + max(abs(first), 1e-12)


def smooth(losses: Sequence[float], width: float = SMOOTHING) -> list[float]:
    """Centred Gaussian mean of the logarithms, of the values where one is not above 0; ends renormalised.

    Example:
        >>> smooth([1.0, 1.0, 1.0])
        [1.0, 1.0, 1.0]
    """
    log = all(v > 0 for v in losses)
    values = [math.log(v) if log else v for v in losses]
    reach = math.ceil(3 * width)
    weights = [math.exp(-0.5 * (k / width) ** 2) for k in range(reach + 1)]
    found = []
    for i in range(len(values)):
        inside = range(max(0, i - reach), min(len(values), i + reach + 1))
        total = sum(weights[abs(j - i)] for j in inside)
        mean = sum(weights[abs(j - i)] * values[j] for j in inside) / total
        found.append(math.exp(mean) if log else mean)
    return found


def _middle(rates: Sequence[float], smoothed: Sequence[float], at: int) -> float:
    """The middle, over log rate, of where most of the fall is kept."""
    edge = smoothed[at] + BASIN * (smoothed[0] - smoothed[at])
    first = next(i for i in range(at + 1) if smoothed[i] <= edge)
    last = next((i for i in range(at, len(smoothed)) if smoothed[i] > edge), len(smoothed) - 1)
    return math.sqrt(rates[first] * rates[last])


def _read(rates: list[float], losses: list[float], diverged: bool) -> RangeTest:
    if not losses:
        return RangeTest((), (), (), math.nan, math.nan, math.nan, math.nan, True, 0.0, 0.0)
    smoothed = smooth(losses)
    at = min(range(len(smoothed)), key=smoothed.__getitem__)
    drop = smoothed[0] - smoothed[at]
    begun = next((i for i in range(at + 1) if smoothed[i] < smoothed[0] - 0.1 * drop), at)
    residuals = [abs(a - b) for a, b in zip(losses[: at + 1], smoothed[: at + 1], strict=True)]
    noise = 1.4826 * median(residuals)  # that of a normal distribution, not led astray by a few spikes
    return RangeTest(
        tuple(rates),
        tuple(losses),
        tuple(smoothed),
        low=rates[begun],
        best=rates[at],
        middle=rates[-1] / UNSEEN if diverged and drop <= noise else _middle(rates, smoothed, at),
        high=rates[-1],
        diverged=diverged,
        drop=drop,
        noise=noise,
    )
