"""Short runs on the user's schedule, all from one start, on one order of batches, judged on the same ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from kudari.tune.range_test import RangeTest, has_diverged
from kudari.tune.step_shape import StepShape
from kudari.tune.trial import Trials

SPACING = 10**0.5
RUNS, MOST_RUNS = 3, 4
"""Short runs that the budget is divided by: where it is small, and where it is not."""
SHORTEST, LONGEST = 12, 500
JUDGES, MORE_JUDGES = 6, 24
"""Batches kept from training to judge by: usually, and where little has to be told from nothing."""

LENGTH_POWER = (0.15, 0.4)
"""How the best rate falls with the length of a run, as a power of it.

The first number is for optimizers whose step follows the size of the gradient (SGD): the end of stability
decides, and it hardly moves. The second is for steps that ignore it (Adam, Lion, Muon): they do not shrink as
training converges, so they wander at the end in proportion to the rate, and more steps reach as far with
smaller ones. Measured on the tasks of ``make bench-tune`` marked as frozen.
"""


@dataclass(frozen=True)
class Probe:
    """A short run on the real schedule.

    Attributes:
        lr: its peak rate.
        loss: mean on the batches kept from training; infinite where it diverged or more than doubled.
        learned: the loss fell by more than twice the standard error of its fall, batch by batch.
    """

    lr: float
    loss: float
    learned: bool = True


@dataclass(frozen=True)
class ShortRuns:
    """Short runs of one length.

    Attributes:
        probes: by rate; one alone where runs of the usual length learned nothing.
        steps: of each.
        start: mean loss before training, on the batches that judge.
        scale: what the best rate of such a run is multiplied by for the whole one.
    """

    probes: tuple[Probe, ...]
    steps: int
    start: float
    scale: float

    @property
    def best(self) -> Probe:
        """The lowest loss."""
        return min(self.probes, key=lambda p: p.loss)

    @property
    def drop(self) -> float:
        """How far the best one got below the start; minus infinity where all diverged."""
        return self.start - self.best.loss

    @property
    def learned(self) -> bool:
        """Whether the best one is better than no training at all, beyond noise and rounding."""
        return self.best.learned and self.drop > 1e-3 * abs(self.start)


def shortening(steps: float, whole: int, step: StepShape) -> float:
    """What the best rate of a run of ``steps`` is multiplied by for one of ``whole``, momentum aside."""
    low, high = LENGTH_POWER
    return float((steps / whole) ** (low + (high - low) * step.ignores))


def short_runs(trials: Trials, scan: RangeTest, step: StepShape, left: float) -> ShortRuns | None:
    """Train for a few steps around the middle of the scan's basin, and further where the best is an end.

    Where the first of them learns nothing that its judges can see, all that is left goes into one longer run
    at a smaller rate with more judges: it tells whether there is anything to learn.

    Args:
        trials: of the user's run.
        scan: the range test.
        step: how the optimizer answers to a gradient.
        left: steps to spend.

    Returns:
        The runs, or None where the loss is not finite before training.
    """
    end, looks = trials.spent + left, JUDGES / 3
    share = (left - looks) / RUNS - looks
    more = (left - looks) / MOST_RUNS - looks
    steps = int(min(LONGEST, max(SHORTEST, more if more >= 4 * SHORTEST else share)))
    scale = _scale(trials, step, steps)
    centre = scan.middle * shortening(scan.length, trials.steps, step) / scale
    before = trials.run(trials.lr, 0, judge=JUDGES).judged
    if not before:
        return None
    found: dict[int, Probe] = {}
    wanted = [0, -1, 1]
    while wanted and len(found) < 8 and trials.spent + steps + looks <= end + 1:
        place = wanted.pop(0)
        found[place] = _one(trials, centre * SPACING**place, steps, before)
        survived = math.isfinite(found[place].loss)
        rest = int(end - trials.spent - 2 * MORE_JUDGES / 3)
        if place == 0 and survived and not found[0].learned and rest > steps:
            return _longer(trials, step, centre / SPACING, rest)
        if not survived:
            wanted = [k for k in wanted if k < place]
        wanted = wanted or _further(found)
    return ShortRuns(tuple(found[k] for k in sorted(found)), steps, fmean(before), scale)


def _scale(trials: Trials, step: StepShape, steps: int) -> float:
    filled = step.reached(steps) / step.reached(trials.steps)
    return shortening(steps, trials.steps, step) * filled


def _longer(trials: Trials, step: StepShape, rate: float, steps: int) -> ShortRuns:
    before = trials.run(trials.lr, 0, judge=MORE_JUDGES).judged
    probes = (_one(trials, rate, steps, before),) if before else (Probe(rate, math.inf, False),)
    return ShortRuns(probes, steps, fmean(before) if before else math.inf, _scale(trials, step, steps))


def _one(trials: Trials, rate: float, steps: int, before: Sequence[float]) -> Probe:
    after = trials.run(rate, steps, judge=len(before), stop=has_diverged).judged
    start = fmean(before)
    if not after or fmean(after) > start + abs(start):
        return Probe(rate, math.inf, learned=False)
    gains = [b - a for b, a in zip(before, after, strict=True)]
    return Probe(rate, fmean(after), fmean(gains) > 2 * stdev(gains) / math.sqrt(len(gains)))


def _further(found: dict[int, Probe]) -> list[int]:
    """The place to try next: beside the best one where that is an end, a decade down where all diverged."""
    best = min(found, key=lambda k: found[k].loss)
    if not math.isfinite(found[best].loss):
        return [min(found) - 2]
    return [k for k in (best - 1, best + 1) if k not in found][:1]


def vertex(probes: Sequence[Probe]) -> tuple[float, float]:
    """The rate at the minimum of a parabola through the best probe and its neighbours, and its half width.

    The parabola is in log10 of the rate. A neighbour that is far worse than the other says that it is beyond
    the edge, not how far the minimum is away: it counts as at most three times as much worse.

    Returns:
        The rate, at most one spacing from the best probe, and half of the width, in decades, within which
        the parabola rises by less than a tenth of what the better neighbour is worse.
    """
    at = min(range(len(probes)), key=lambda i: probes[i].loss)
    if at in (0, len(probes) - 1):
        return probes[at].lr, 0.25
    below, best, above = (probes[at + i].loss for i in (-1, 0, 1))
    left, right = max(below - best, 1e-12), max(above - best, 1e-12)  # three equal losses: the middle
    smaller = min(left, right)
    left, right = min(left, 3 * smaller), min(right, 3 * smaller)
    h = math.log10(probes[at + 1].lr / probes[at].lr)
    bend = (left + right) / (2 * h * h)
    shift = (left - right) / (4 * h * bend)
    width = math.sqrt(0.1 * smaller / bend)
    return probes[at].lr * float(10.0**shift), min(0.5, max(0.1, width))
