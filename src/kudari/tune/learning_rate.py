"""``kudari.tune.lr``: a learning rate found on the user's own run, or the admission that none was."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from kudari.errors import ArgumentError
from kudari.train.options import Options
from kudari.tune.range_test import RangeTest, has_diverged, range_test
from kudari.tune.step_shape import StepShape, step_of
from kudari.tune.trial import Trials, open_trials

Confidence = Literal["high", "medium", "low", "none"]

RANGE_SHARE = 0.55
"""Share of the budget the range test may take; what it leaves goes to the trials."""

LITTLE = 0.25
"""Short runs whose loss falls by a smaller share say little about the whole: the best rates of a run that has
hardly begun were up to 4 times too large on a network with batch norm."""

SPACING = 10**0.5
PROBES, MOST_PROBES = 3, 4
"""Short runs that the budget is divided by: where it is small, and where it is not."""
SHORTEST_PROBE, LONGEST_PROBE = 12, 500
SHORTEST_RUN = 120
"""A run of fewer steps has no room for a range test of 30 steps a decade and three trials in half of it."""

LENGTH_POWER = (0.15, 0.35)
"""How the best rate falls with the length of a run, as a power of it.

The first number is for optimizers whose step follows the size of the gradient (SGD): the end of stability
decides, and it hardly moves. The second is for steps that ignore it (Adam, Lion, Muon): they do not shrink as
training converges, so they wander at the end in proportion to the rate, and more steps reach as far with
smaller ones. Measured on the tasks of ``make bench-tune`` marked as frozen.
"""

SLACK = (0.0, 0.05)
"""Share of what was learned that may be given up for a smaller rate, for the same two kinds of steps: the
wandering at the end of a long run does not show in a short one."""


@dataclass(frozen=True)
class Probe:
    """A short run on the real schedule: its rate, and its loss on batches it was not trained on."""

    lr: float
    loss: float


@dataclass(frozen=True)
class LrSuggestion:
    """What :func:`lr` found.

    Attributes:
        lr: to train with: the suggestion, or the optimizer's own rate where there is none.
        low, high: rates about as good as the suggestion; equal to ``lr`` where there is none.
        confidence: ``high``; ``medium`` where an end of the range was not seen; ``low`` where the short runs
            learned little; ``none``: no reliable suggestion.
        why: a sentence or two.
        default: the optimizer's own rate.
        scan: the range test, None where there was not even that.
        probes: the short runs, by rate.
        probe_steps: their length.
        scale: what the best rate of a short run is multiplied by for the whole one.
        steps: optimizer steps of the user's run.
        spent: steps that the search cost, forward passes counted as a third of a step.
    """

    lr: float
    low: float
    high: float
    confidence: Confidence
    why: str
    default: float
    steps: int
    spent: float
    scan: RangeTest | None = field(default=None, repr=False)
    probes: tuple[Probe, ...] = field(default=(), repr=False)
    probe_steps: int = 0
    scale: float = 1.0

    @property
    def reliable(self) -> bool:
        """Whether there is a suggestion at all."""
        return self.confidence != "none"

    @property
    def picture(self) -> str:
        """The range test and the short runs as one SVG that needs nothing else."""
        from kudari.tune.picture import draw_suggestion

        return draw_suggestion(self)


def lr(
    model: nn.Module, loss: Any, data: Any, optimizer: Any = "adamw", *, budget: float = 0.5, **options: Any
) -> LrSuggestion:
    """Suggest a learning rate for a run, by trying; model, optimizer, data and random state stay as they are.

    A range test finds between which rates training works. Short runs on the real schedule, squeezed into
    their length, decide between them, judged on batches they were not trained on. The best rate of a short
    run is then brought down to the length of the whole one.

    Args:
        model: as for :func:`kudari.fit`; back to its own weights, buffers and modes afterwards.
        loss: a name, module or function (outputs, targets) -> mean; None chooses as ``fit`` does.
        data: the training data: ``(X, y)``, TensorData, Bundle, Dataset, DataLoader, any iterable that can be
            read again.
        optimizer: a name, a class, an Optimizer (its state is where trials begin; groups keep the ratios of
            their rates), or a function of the parameters.
        budget: steps to spend, as a share of the run's; 0.5 is half a training run.
        options: the other keyword arguments of :func:`kudari.fit` that shape the run: ``steps`` or
            ``epochs``, ``schedule``, ``batch_size``, ``accumulate``, ``clip_norm``, ``precision``,
            ``weight_decay``, ``augment``, ``seed``, ``device``, ``threads``.

    Returns:
        An :class:`LrSuggestion`. Its ``confidence`` is ``none`` where the loss does not react, or nothing
        separates the rates; ``why`` then says so and ``lr`` is the optimizer's own.

    Raises:
        ArgumentError, DataError: what ``fit`` would refuse, and data that can be read once only.

    Example:
        >>> found = kudari.tune.lr(model, "cross_entropy", (X, y), "lion", epochs=10)  # doctest: +SKIP
        >>> found.lr, found.confidence  # doctest: +SKIP
        (0.0004, 'high')
    """
    known = {f.name for f in dataclasses.fields(Options)}
    unknown = [name for name in options if name not in known]
    if unknown:
        from kudari.errors import did_you_mean

        raise ArgumentError(
            f"tune.lr: {unknown[0]!r} is not an argument.{did_you_mean(unknown[0], known)}",
            fix="It takes those of kudari.fit that shape a run, such as epochs, steps, batch_size, schedule.",
        )
    if not 0 < budget <= 10:
        raise ArgumentError(f"budget={budget} is outside (0, 10].", fix="Pass 0.5 for half a training run.")
    shaped = Options(loss=loss, optimizer=optimizer, **options)
    with open_trials(model, data, None, shaped) as trials:
        return find_lr(trials, budget)


def find_lr(trials: Trials, budget: float = 0.5) -> LrSuggestion:
    """The search behind :func:`lr`, on trials that are open already."""
    allowed = int(budget * trials.steps)
    if allowed < SHORTEST_RUN // 2:
        return _none(
            trials,
            f"The run has {trials.steps} steps, and {allowed} are allowed for the search; a range test and "
            f"three short runs need {SHORTEST_RUN // 2}. Pass a larger budget, or train longer.",
        )
    begun = trials.spent
    step = step_of(trials)
    scan = range_test(trials, max(30, int(RANGE_SHARE * allowed)), step.moved)
    if not scan.rates or len(scan.rates) < 8:
        return _none(trials, "The loss was not finite from the first steps on, at any rate.", scan)
    probes, steps = _probe(trials, scan, allowed - (trials.spent - begun))
    return _decide(trials, scan, probes, steps, step)


def _between(pair: tuple[float, float], share: float) -> float:
    return pair[0] + (pair[1] - pair[0]) * share


def _probe(trials: Trials, scan: RangeTest, left: float) -> tuple[list[Probe], int]:
    """Short runs around the minimum of the scan, and beyond their best while the budget lasts."""
    judging = 1 + 1 / 9  # a third of the steps, forward only
    steps = left / PROBES / judging
    if left / MOST_PROBES / judging >= 4 * SHORTEST_PROBE:
        steps = left / MOST_PROBES / judging
    steps = int(min(LONGEST_PROBE, max(SHORTEST_PROBE, steps)))
    end = trials.spent + left
    found: dict[int, Probe] = {}
    wanted = [0, -1, 1]
    while wanted and len(found) < 8 and trials.spent + steps * judging <= end + 1:
        place = wanted.pop(0)
        rate = scan.best * SPACING**place
        trace = trials.run(rate, steps, judge=max(2, steps // 3), stop=has_diverged)
        found[place] = Probe(rate, math.inf if trace.judged is None else trace.judged)
        if not math.isfinite(found[place].loss):
            wanted = [k for k in wanted if k < place]
        wanted = wanted or _further(found)
    return [found[k] for k in sorted(found)], steps


def _further(found: dict[int, Probe]) -> list[int]:
    """The place to try next: beside the best one where that is an end, below where everything diverged."""
    best = min(found, key=lambda k: found[k].loss)
    if not math.isfinite(found[best].loss):
        return [min(found) - 1]
    return [k for k in (best - 1, best + 1) if k not in found][:1]


def _decide(
    trials: Trials, scan: RangeTest, probes: Sequence[Probe], steps: int, step: StepShape
) -> LrSuggestion:
    finite = [p for p in probes if math.isfinite(p.loss)]
    scale = (steps / trials.steps) ** _between(LENGTH_POWER, step.ignores)
    scale *= step.reached(steps) / step.reached(trials.steps)
    start = scan.smoothed[0]
    best = min(probes, key=lambda p: p.loss)
    drop = start - best.loss
    if not finite or drop <= 2 * scan.noise / math.sqrt(max(2, steps // 3)) or drop <= 1e-3 * abs(start):
        why = "No short run got below the loss it began with"
        why = f"{why} ({start:.4g}): the loss does not react to training within {steps} steps."
        return _none(
            trials,
            f"{why} If data, labels and loss are sound (ask kudari doctor), a larger budget may tell more.",
            scan,
            probes,
            steps,
        )
    peak, width = vertex(probes)
    peak = min(peak, least_within(probes, best.loss + _between(SLACK, step.ignores) * drop))
    if scan.diverged:  # what a short run just survives, a long one does not
        peak = min(peak, scan.high)
    at = peak * scale
    inside = probes[0].lr < best.lr < probes[-1].lr
    confidence: Confidence = "high" if inside and scan.diverged else "medium"
    if drop < LITTLE * abs(start):
        confidence = "low"
    why = (
        f"Of short runs of {steps} steps the best rate is about {peak:.2g}"
        + ("" if inside else ", at the end of those tried")
        + f"; a run of {trials.steps:,} steps wants {scale:.2g} of it. "
        + (
            f"Training diverges from {scan.high:.2g} on."
            if scan.diverged
            else "No rate tried made it diverge."
        )
        + (
            f" The short runs learned little ({start:.3g} to {best.loss:.3g}): a larger budget tells more."
            if confidence == "low"
            else ""
        )
    )
    return LrSuggestion(
        lr=at,
        low=at / 10**width,
        high=at * 10**width,
        confidence=confidence,
        why=why,
        default=trials.lr,
        steps=trials.steps,
        spent=trials.spent,
        scan=scan,
        probes=tuple(probes),
        probe_steps=steps,
        scale=scale,
    )


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


def least_within(probes: Sequence[Probe], loss: float) -> float:
    """The smallest rate at which the line through the probes, over log rate, is at ``loss`` or below.

    Example:
        >>> round(least_within([Probe(0.01, 2.0), Probe(0.1, 1.0)], 1.5), 4)
        0.0316
    """
    at = next(i for i, p in enumerate(probes) if p.loss <= loss)
    if at == 0 or not math.isfinite(probes[at - 1].loss):
        return probes[at].lr
    before, after = probes[at - 1], probes[at]
    share = (loss - after.loss) / (before.loss - after.loss)
    return float(after.lr * (before.lr / after.lr) ** share)


def _none(
    trials: Trials, why: str, scan: RangeTest | None = None, probes: Sequence[Probe] = (), steps: int = 0
) -> LrSuggestion:
    return LrSuggestion(
        lr=trials.lr,
        low=trials.lr,
        high=trials.lr,
        confidence="none",
        why=f"No reliable suggestion. {why}",
        default=trials.lr,
        steps=trials.steps,
        spent=trials.spent,
        scan=scan,
        probes=tuple(probes),
        probe_steps=steps,
    )
