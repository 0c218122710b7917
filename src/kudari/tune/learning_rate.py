"""``kudari.tune.lr``: a learning rate found on the user's own run, or the admission that none was."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from kudari.errors import ArgumentError
from kudari.tune.range_test import RangeTest, range_test
from kudari.tune.short_runs import Probe, ShortRuns, short_runs
from kudari.tune.step_shape import StepShape, step_of
from kudari.tune.trial import Trials, open_trials, shaped

Confidence = Literal["high", "medium", "low", "none"]

RANGE_SHARE = 0.55
"""Share of the budget the range test may take; what it leaves goes to the short runs."""

MUCH, LITTLE = 0.5, 0.25
"""Shares of the loss that both have to bring down for a suggestion to be called ``high``, and ``medium``."""

ROUNDING = 1e-3
"""Short runs whose loss falls by a smaller share have learned nothing."""

SHORTEST_RUN = 120
"""A run of fewer steps has no room for a range test of 30 steps a decade and three short runs in its half."""


@dataclass(frozen=True)
class LrSuggestion:
    """What :func:`lr` found.

    Attributes:
        lr: to train with: the suggestion, or the optimizer's own rate where there is none.
        low, high: rates about as good as the suggestion; equal to ``lr`` where there is none.
        confidence: ``high`` where range test and short runs both brought the loss down by half, ``medium``:
            by a quarter, ``low``: by less; ``none``: no reliable suggestion.
        why: a sentence or two.
        default: the optimizer's own rate.
        scan: the range test, None where there was not even that.
        probes: the short runs, by rate.
        probe_steps: their length.
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

    A range test finds between which rates training works, and where it learns most, which is brought down
    to the length of the whole run. From there on short runs, the first steps of the real one at several
    rates, are trained on the same batches and judged on the same others. What both find best is averaged.

    Args:
        model: as for :func:`kudari.fit`; back to its own weights, buffers and modes afterwards.
        loss: a name, module or function (outputs, targets) -> mean; None chooses as ``fit`` does.
        data: the training data: ``(X, y)``, TensorData, Bundle, Dataset, DataLoader, any iterable that can be
            read again.
        optimizer: a name, a class, an Optimizer (its state is where trials begin; groups keep the ratios of
            their rates), or a function of the parameters.
        budget: steps to spend, as a share of the run's; 0.5 is half a training run, 4 pays for trying whole
            runs.
        options: the other keyword arguments of :func:`kudari.fit` that shape the run: ``steps`` or
            ``epochs``, ``schedule``, ``batch_size``, ``accumulate``, ``clip_norm``, ``precision``,
            ``weight_decay``, ``augment``, ``seed``, ``device``, ``threads``.

    Returns:
        An :class:`LrSuggestion`. Its ``confidence`` is ``none`` where no loss got below that of the untrained
        model, or every run diverged; ``why`` then says so and ``lr`` is the optimizer's own.

    Raises:
        ArgumentError, DataError: what ``fit`` would refuse, and data that can be read once only.

    Example:
        >>> found = kudari.tune.lr(model, "cross_entropy", (X, y), "lion", epochs=10)  # doctest: +SKIP
        >>> found.lr, found.confidence  # doctest: +SKIP
        (0.0004, 'high')
    """
    if not isinstance(budget, (int, float)) or not 0 < budget <= 10:
        raise ArgumentError(f"budget={budget!r} is outside (0, 10].", fix="Pass 0.5 for half a training run.")
    run = shaped("tune.lr", options, loss=loss, optimizer=optimizer)
    with open_trials(model, data, None, run) as trials:
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
    by_scan = scan.suggests(trials.steps, step)
    runs = short_runs(trials, by_scan, allowed - (trials.spent - begun))
    if runs is None:
        return _none(trials, "The loss is not finite before training.", scan)
    return _decide(trials, scan, runs, step)


def _decide(trials: Trials, scan: RangeTest, runs: ShortRuns, step: StepShape) -> LrSuggestion:
    if not math.isfinite(runs.best.loss):
        return _none(trials, f"Runs of {runs.steps} steps diverged at every rate tried.", scan, runs)
    learned = runs.fall > ROUNDING
    if not (learned or scan.seen):
        return _none(
            trials,
            f"No short run got below the loss it began with ({runs.start:.4g}): the loss does not react to "
            f"training within {runs.steps} steps. If data, labels and loss are sound (ask kudari doctor), a "
            "larger budget may tell more.",
            scan,
            runs,
        )
    by_scan = scan.suggests(trials.steps, step)
    by_runs, width = runs.suggests(trials.steps, step) if learned else (by_scan, 0.25)
    if scan.diverged:  # what a short run just survives, a long one does not
        by_runs = min(by_runs, scan.high)
    weight = scan_weight(scan.length / trials.steps, runs.steps / trials.steps)
    at = by_runs ** (1.0 - weight) * by_scan**weight
    fall = min(scan.fall, runs.fall)
    return LrSuggestion(
        lr=at,
        low=at / 10**width,
        high=at * 10**width,
        confidence="high" if fall >= MUCH else "medium" if fall >= LITTLE else "low",
        why=_why(scan, runs, by_scan, by_runs if learned else None, trials.steps, step),
        default=trials.lr,
        steps=trials.steps,
        spent=trials.spent,
        scan=scan,
        probes=runs.probes,
        probe_steps=runs.steps,
    )


def scan_weight(scan: float, short: float) -> float:
    """What the range test counts in the mean of both, 0 to 1.

    Their errors hardly depend on each other, and each grows with how much shorter than the whole run it was,
    in decades; the weights are the inverse squares.

    Args:
        scan, short: lengths of range test and short runs, as shares of the run's, above 0 and at most 1.

    Example:
        >>> round(scan_weight(0.04, 0.08), 2), scan_weight(0.001, 1.0)
        (0.38, 0.0)
    """
    for_scan, for_short = math.log(short) ** 2, math.log(scan) ** 2
    return for_scan / (for_scan + for_short) if short < 1.0 else 0.0


def _why(
    scan: RangeTest, runs: ShortRuns, by_scan: float, by_runs: float | None, steps: int, step: StepShape
) -> str:
    found = f"The range test learns most around {scan.middle:.2g}"
    if scan.on_plateau(step) > 0.5:
        found = f"The range test learned little before it diverged at {scan.high:.2g}"
    parts = [f"{found}, which makes {by_scan:.2g} for {steps:,} steps"]
    parts[0] += "." if by_runs is None else f"; short runs of {runs.steps} steps make it {by_runs:.2g}."
    parts.append(
        f"Training diverges from {scan.high:.2g} on." if scan.diverged else "No rate tried made it diverge."
    )
    if min(scan.fall, runs.fall) < LITTLE:
        parts.append(
            f"Little was learned, {scan.fall:.0%} of the loss in the range test, {max(0.0, runs.fall):.0%} "
            "in short runs: a larger budget tells more, and 4 pays for whole runs."
        )
    return " ".join(parts)


def _none(
    trials: Trials, why: str, scan: RangeTest | None = None, runs: ShortRuns | None = None
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
        probes=runs.probes if runs else (),
        probe_steps=runs.steps if runs else 0,
    )
