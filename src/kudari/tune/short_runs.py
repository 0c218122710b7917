"""Short runs: the first steps of the user's own run, on one order of batches, judged on the same ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from kudari.tune.step_shape import StepShape
from kudari.tune.trial import Trials

SPACING = 10**0.5
RUNS, MOST = 3, 8
"""Short runs that the budget is divided by, and how many there are at most: those that diverge leave some,
and so does a budget of more than so many whole runs."""
SHORTEST = 12
LENGTH_POWER = 0.25
"""How the best rate falls with the length of a run, as a power of it, where steps ignore the gradient's size
(Adam, Lion, Muon): a short run ends before it has to settle. Where steps follow it (SGD), it stays."""
JUDGES = 6
"""Batches kept from training to judge by."""


@dataclass(frozen=True)
class Probe:
    """A short run.

    Attributes:
        lr: its peak rate.
        loss: mean on the batches kept from training; infinite where it diverged or more than doubled.
    """

    lr: float
    loss: float


@dataclass(frozen=True)
class ShortRuns:
    """Short runs of one length.

    Attributes:
        probes: by rate, at least one.
        steps: of each.
        start: mean loss before training, on the batches that judge.
    """

    probes: tuple[Probe, ...]
    steps: int
    start: float

    @property
    def best(self) -> Probe:
        """The lowest loss."""
        return min(self.probes, key=lambda p: p.loss)

    @property
    def fall(self) -> float:
        """How far the best one got below the start, as a share of it; minus infinity where all diverged."""
        return (self.start - self.best.loss) / max(abs(self.start), 1e-12)

    def suggests(self, steps: int, step: StepShape) -> tuple[float, float]:
        """A rate for a run of ``steps``, and how many decades around it are about as good."""
        peak, width = vertex(self.probes)
        return peak * float((self.steps / steps) ** (LENGTH_POWER * step.ignores)), width


def short_runs(trials: Trials, centre: float, left: float) -> ShortRuns | None:
    """Train the first steps of the run at a rate, at the next larger one, and on from the better of the two.

    The larger one comes second because most of what goes wrong is a rate that is too low, and because runs
    that diverge end early and cost little.

    Args:
        trials: of the user's run.
        centre: where to begin.
        left: steps to spend.

    Returns:
        The runs, or None where the loss is not finite before training.
    """
    end, looks = trials.spent + left, JUDGES / 3
    before = trials.run(trials.lr, 0, judge=JUDGES).judged
    if not before:
        return None
    steps = min(trials.steps, max(SHORTEST, int((left - looks) / RUNS - looks)))
    found: dict[int, Probe] = {}
    wanted = [0, 1]
    while wanted and len(found) < MOST and trials.spent + steps + looks <= end:
        place = wanted.pop(0)
        found[place] = _one(trials, centre * SPACING**place, steps, fmean(before))
        if not math.isfinite(found[place].loss):
            wanted = [k for k in wanted if k < place]
        wanted = wanted or _further(found)
    return ShortRuns(tuple(found[k] for k in sorted(found)), steps, fmean(before))


def _one(trials: Trials, rate: float, steps: int, start: float) -> Probe:
    after = trials.run(rate, steps, factor=trials.begun(steps), judge=JUDGES, stop=has_blown_up).judged
    sound = after and fmean(after) <= start + abs(start)
    return Probe(rate, fmean(after) if sound else math.inf)


def has_blown_up(losses: Sequence[float]) -> bool:
    """Whether the newest losses are far above the first ones, four times as high.

    Less is no reason to stop. At its best rate SGD may lose what it had learned and as much again before it
    learns most, and a run with nothing left to learn loses four times its lowest loss by chance.

    Example:
        >>> has_blown_up([2.3] * 5 + [1e-3] * 20 + [0.1] * 5), has_blown_up([2.3] * 10 + [9.3] * 5)
        (False, True)
    """
    if len(losses) < 10:
        return False
    first = fmean(losses[:5])
    return median(losses[-5:]) > first + 3 * abs(first)


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
    if not math.isfinite(smaller):  # both neighbours diverged
        return probes[at].lr, 0.25
    left, right = min(left, 3 * smaller), min(right, 3 * smaller)
    h = math.log10(probes[at + 1].lr / probes[at].lr)
    bend = (left + right) / (2 * h * h)
    shift = (left - right) / (4 * h * bend)
    width = math.sqrt(0.1 * smaller / bend)
    return probes[at].lr * float(10.0**shift), min(0.5, max(0.1, width))
