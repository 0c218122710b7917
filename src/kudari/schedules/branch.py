"""Runs that leave their plan: stop a schedule's time, and cool down from any checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from kudari.compile.expression import Expr
from kudari.compile.notation import minimum
from kudari.errors import ArgumentError
from kudari.schedules.curves.constant import constant
from kudari.schedules.curves.cooldown import cooldown
from kudari.schedules.length import LengthLike, RunSize
from kudari.schedules.schedule import Schedule, Window


@dataclass(frozen=True, repr=False)
class Freeze(Schedule):
    """A schedule whose time stops at a step."""

    child: Schedule
    step: int
    total_steps: int | None

    def steps(self, run: RunSize) -> Fraction | None:
        """None: it takes what time it is given."""
        return None

    def parts(self) -> Iterator[Schedule]:
        """This schedule and every schedule in it."""
        yield self
        yield from self.child.parts()

    def expression(self, t: Expr, window: Window) -> Expr:
        """The schedule at the earlier of ``t`` and the step."""
        # The new run has another length: only the planned one may enter the schedule.
        planned = replace(
            window, steps=self.total_steps, run=replace(window.run, total_steps=self.total_steps)
        )
        last = self.step if window.steps is None else min(self.step, window.steps)
        try:
            return self.child.expression(minimum(t, last), planned)
        except ArgumentError as error:
            if self.total_steps is not None:
                raise
            why = f"{self.child} was planned for another run, and how long that was to be is not known."
            raise ArgumentError(f"{self}: {error.what}", why, error.fix) from None

    def __str__(self) -> str:
        planned = "" if self.total_steps is None else f", total_steps={self.total_steps}"
        return f"freeze({self.child}, {self.step}{planned})"


def freeze(schedule: Schedule, step: int, *, total_steps: int | None = None) -> Schedule:
    """Hold the value that a schedule has at a step from there on.

    Args:
        schedule: any schedule.
        step: 0 or more.
        total_steps: of the run the schedule was planned for, if it depends on it.

    Raises:
        ArgumentError: if ``step`` is not a whole number of 0 or more.

    Example:
        >>> from kudari.schedules import linear
        >>> freeze(linear(1, 0, length=10), 5).factor(8)
        0.5
    """
    if not isinstance(schedule, Schedule):
        raise ArgumentError(f"freeze: {schedule!r} is not a schedule.")
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise ArgumentError(f"freeze: step={step!r} is not a whole number of 0 or more.")
    return Freeze(schedule, step, total_steps)


def cooldown_from(
    schedule: Schedule,
    step: int,
    length: LengthLike,
    *,
    floor: float = 0.0,
    shape: str = "1-sqrt",
    total_steps: int | None = None,
) -> Schedule:
    """Follow a schedule up to a checkpoint's step, then fall from the value it has there.

    Source: Hägele et al. 2024, Scaling Laws and Compute-Optimal Training Beyond Fixed Durations, section 4.

    Args:
        schedule: what the run has followed so far.
        step: optimizer step of the checkpoint.
        length: of the decay; the new run has ``step`` plus this many steps.
        floor: 0 to 1, of the value at ``step``.
        shape: ``"1-sqrt"``, ``"linear"`` or ``"cosine"``.
        total_steps: of the run as it was planned, if the schedule depends on it.

    Example:
        >>> branch = cooldown_from(constant(0.5), 1000, 100, shape="linear")
        >>> branch.factor(1050, total_steps=1100)
        0.25
    """
    down = constant(length=step) >> cooldown(length, floor=floor, shape=shape)
    return freeze(schedule, step, total_steps=total_steps) * down
