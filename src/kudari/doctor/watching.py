"""Observe any PyTorch training code: ``with kudari.doctor.watch() as doctor: ...``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer

from kudari.doctor.catalogue import illness
from kudari.doctor.diagnose import Diagnoses, conclude, judge_run
from kudari.doctor.finding import SEVERITIES, Finding, Severity
from kudari.doctor.observe.patches import install
from kudari.doctor.observe.stream import FIRST_SAMPLED_STEPS, StopTrainingError
from kudari.doctor.printers.text import run_text
from kudari.doctor.track.run import RunFacts
from kudari.errors import ArgumentError, did_you_mean

# The doctors at work, the outermost first.
_watching: list[Doctor] = []


def is_watching() -> bool:
    """True inside a :func:`watch` block of this process."""
    return bool(_watching)


class Doctor:
    """What ``watch`` hands out; its findings are complete when the block ends.

    Attributes:
        diagnoses: everything, None while the block runs.
    """

    def __init__(self, run: RunFacts, ignore: tuple[str, ...]) -> None:
        self.run = run
        self.ignore = ignore
        self.diagnoses: Diagnoses | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings; while the block still runs, those that are certain so far."""
        return (self.diagnoses or self.examine()).findings

    def examine(self, static: tuple[Finding, ...] = ()) -> Diagnoses:
        """Judge what was seen so far."""
        self.run.stream.quiet += 1
        try:
            findings, passed, skipped = judge_run(self.run)
        finally:
            self.run.stream.quiet -= 1
        return conclude(findings, passed, skipped, static, self.ignore)

    def __str__(self) -> str:
        return run_text(self.diagnoses or self.examine(), self.run.stream.cost())


@contextlib.contextmanager
def watch(
    *subjects: nn.Module | Optimizer,
    every: int = 25,
    first: int = FIRST_SAMPLED_STEPS,
    ignore: tuple[str, ...] = (),
    stop_on: Severity | None = None,
    steps: int | None = None,
) -> Iterator[Doctor]:
    """Watch the training code inside the block; nothing stays patched afterwards.

    Args:
        subjects: models and optimizers that exist already; others are met when they are used.
        every: optimizer steps between samples of statistics, 1 or more.
        first: so many steps at the start are all sampled, 1 or more.
        ignore: slugs of findings to leave out.
        stop_on: raise :class:`StopTrainingError` at the first step where a finding of this level stands.
        steps: take everything out again after so many optimizer steps, 1 or more; None watches to the end.

    Yields:
        A :class:`Doctor`, whose ``findings`` are complete when the block has ended.

    Raises:
        ArgumentError: ``every``, ``first`` or ``steps`` is below 1, or a level or slug is not known.

    Example:
        >>> with watch() as doctor:  # doctest: +SKIP
        ...     train(model, optimizer)
        >>> [finding.fault for finding in doctor.findings]  # doctest: +SKIP
        ['missing-zero-grad']
    """
    if every < 1:
        raise ArgumentError(
            f"every={every} is below 1.", fix="Pass the steps between two samples, such as 25."
        )
    if first < 1:
        raise ArgumentError(f"first={first} is below 1.", fix="Pass a number of steps, such as 20.")
    if steps is not None and steps < 1:
        raise ArgumentError(f"steps={steps} is below 1.", fix="Pass the steps to watch, or None.")
    _check_names(ignore, stop_on)
    run = RunFacts(every, first)
    for subject in subjects:
        _introduce(run, subject)
    doctor = Doctor(run, ignore)
    if stop_on is not None:
        run.rest.allowed = False
        run.optimizers.on_step.append(_stopper(doctor, stop_on))
    patcher = install(run.stream, run.roots, run.rest)
    if steps is not None:

        def close() -> None:
            patcher.restore()
            run.forget_batches()

        run.stream.ends_at(steps, close)
    _watching.append(doctor)
    try:
        yield doctor
    except BaseException as error:
        run.aborted = not (isinstance(error, SystemExit) and error.code in (None, 0))
        raise
    finally:
        _watching.remove(doctor)
        patcher.restore()
        run.finish()
        doctor.diagnoses = doctor.examine()


def _check_names(ignore: str | tuple[str, ...], stop_on: str | None) -> None:
    if isinstance(ignore, str):
        raise ArgumentError(f"ignore={ignore!r} is one text.", fix=f"Pass ignore=({ignore!r},).")
    for slug in ignore:
        illness(slug)
    if stop_on is not None and stop_on not in SEVERITIES:
        raise ArgumentError(
            f"stop_on={stop_on!r} is not known.{did_you_mean(stop_on, SEVERITIES)}",
            fix=f"Choose one of {', '.join(SEVERITIES)}, or None.",
        )


def _introduce(run: RunFacts, subject: Any) -> None:
    if isinstance(subject, Optimizer):
        run.optimizers.record(subject)
    elif isinstance(subject, nn.Module):
        run.roots.of(subject)
    else:
        raise ArgumentError(
            f"watch() was given {type(subject).__name__}, which is neither a model nor an optimizer.",
            fix="Pass torch.nn.Module and torch.optim.Optimizer objects, or nothing.",
        )


def _stopper(doctor: Doctor, level: Severity) -> Any:
    def check(record: Any, begins: bool) -> None:
        if begins or record.steps % 25:
            return
        diagnoses = doctor.examine()
        if diagnoses.reaches(level):
            first = diagnoses.shown[0]
            raise StopTrainingError(f"{first.severity}[{first.fault}]: {first.message}")

    return check
