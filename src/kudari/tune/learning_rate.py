"""``kudari.tune.lr``: a learning rate found on the user's own run, or the admission that none was."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from kudari.errors import ArgumentError
from kudari.tune.range_test import RangeTest, range_test
from kudari.tune.short_runs import Probe, ShortRuns, short_runs, vertex
from kudari.tune.step_shape import step_of
from kudari.tune.trial import Trials, open_trials, shaped

Confidence = Literal["high", "medium", "low", "none"]

RANGE_SHARE = 0.55
"""Share of the budget the range test may take; what it leaves goes to the short runs."""

SCAN_WEIGHT = (0.4, 0.8)
"""How much the range test counts beside the short runs, for steps that follow the gradient and that do not.

Both estimate one rate, with errors that hardly depend on each other, so they are averaged. On the tasks
of ``make bench-tune`` the short runs know more where steps follow the gradient, the range test where not.
"""

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
        budget: steps to spend, as a share of the run's; 0.5 is half a training run.
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
    centre = scan.brought_down(trials.steps, step.ignores)
    runs = short_runs(trials, centre, allowed - (trials.spent - begun))
    if runs is None:
        return _none(trials, "The loss is not finite before training.", scan)
    return _decide(trials, scan, runs, step.ignores)


def _decide(trials: Trials, scan: RangeTest, runs: ShortRuns, ignores: float) -> LrSuggestion:
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
    by_scan = scan.brought_down(trials.steps, ignores)
    peak, width = vertex(runs.probes) if learned else (by_scan, 0.25)
    if scan.diverged:  # what a short run just survives, a long one does not
        peak = min(peak, scan.high)
    low, high = SCAN_WEIGHT
    weight = low + (high - low) * ignores
    at = peak ** (1.0 - weight) * by_scan**weight
    fall = min(scan.fall, runs.fall)
    return LrSuggestion(
        lr=at,
        low=at / 10**width,
        high=at * 10**width,
        confidence="high" if fall >= MUCH else "medium" if fall >= LITTLE else "low",
        why=_why(scan, runs, by_scan, peak if learned else None, trials.steps),
        default=trials.lr,
        steps=trials.steps,
        spent=trials.spent,
        scan=scan,
        probes=runs.probes,
        probe_steps=runs.steps,
    )


def _why(scan: RangeTest, runs: ShortRuns, by_scan: float, peak: float | None, steps: int) -> str:
    parts = [f"The range test learns most around {scan.middle:.2g}, {by_scan:.2g} for {steps:,} steps"]
    parts[0] += f". Short runs of {runs.steps} steps do around {peak:.2g}." if peak is not None else "."
    parts.append(
        f"Training diverges from {scan.high:.2g} on." if scan.diverged else "No rate tried made it diverge."
    )
    if min(scan.fall, runs.fall) < LITTLE:
        parts.append(
            f"Little was learned, {scan.fall:.0%} of the loss in the range test, {max(0.0, runs.fall):.0%} "
            "in short runs: a larger budget tells more."
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
