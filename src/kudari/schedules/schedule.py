"""Schedules: pure functions of the step that multiply a hyper-parameter, and how they compose.

``a >> b`` is a, then b with its own time from 0; ``a * b`` is both at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from kudari.compile.expression import Expr, const, hyper
from kudari.compile.notation import where
from kudari.errors import ArgumentError
from kudari.schedules.length import LengthLike, RunSize

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from kudari.schedules.attach import ScheduleLR
    from kudari.schedules.bound import Bound
    from kudari.schedules.function import Function

TIME = hyper("t")


@dataclass(frozen=True)
class Window:
    """The time a schedule is given.

    Attributes:
        steps: how long; None for "until the run ends, whenever that is".
        run: the run around it.
        hold: whether time may go on after the end, so that the last value must be held.
        calls: filled in while expressions are built: Python functions and the local time they are called
            with, by the name that stands for their value.
    """

    steps: int | None
    run: RunSize
    hold: bool = True
    calls: dict[str, tuple[Function, Expr]] = field(default_factory=dict, compare=False, repr=False)


class Schedule:
    """A factor that depends on the step alone.

    Schedules are frozen, equal when written alike, and ``str`` gives text that :func:`kudari.schedules.parse`
    reads back. A kind of schedule defines :meth:`steps`, :meth:`expression` and ``__str__``.

    Example:
        >>> from kudari.schedules import cosine, warmup
        >>> schedule = warmup("2%") >> cosine(floor=0.1)
        >>> schedule.factor(1000, total_steps=1000)
        0.1
    """

    def steps(self, run: RunSize) -> Fraction | None:
        """Its own length in steps; None if it takes what time it is given."""
        raise NotImplementedError

    def expression(self, t: Expr, window: Window) -> Expr:
        """The factor as an expression of the local step ``t``, which counts from 0."""
        raise NotImplementedError

    def parts(self) -> Iterator[Schedule]:
        """This schedule and every schedule in it."""
        yield self

    def bind(
        self,
        total_steps: int | None = None,
        *,
        epochs: float | None = None,
        steps_per_epoch: int | None = None,
        batch_size: int | None = None,
        tokens_per_step: int | None = None,
    ) -> Bound:
        """Fix the length of the run; the result is called with a step and is fast (under a microsecond).

        Args:
            total_steps: optimizer steps of the run; may be left out if nothing in the schedule depends on it.
            epochs, steps_per_epoch: length of the run in passes over the data, for lengths in epochs.
            batch_size: samples in an optimizer step, for lengths in samples.
            tokens_per_step: tokens in an optimizer step, for lengths in tokens.

        Returns:
            A :class:`~kudari.schedules.bound.Bound`: ``bound(step) -> float``.

        Raises:
            ArgumentError: if the lengths contradict each other or the run, with the arithmetic.

        Example:
            >>> from kudari.schedules import linear
            >>> factor = linear(1, 0).bind(total_steps=100)
            >>> factor(0), factor(25), factor(100), factor(1000)
            (1.0, 0.75, 0.0, 0.0)
        """
        return self.bind_run(
            RunSize.of(
                total_steps,
                epochs=epochs,
                steps_per_epoch=steps_per_epoch,
                batch_size=batch_size,
                tokens_per_step=tokens_per_step,
            )
        )

    def bind_run(self, run: RunSize) -> Bound:
        """The same as :meth:`bind`, for a run size that is already known."""
        from kudari.schedules.bound import Bound

        return Bound(self, run)

    def over(self, run: RunSize, calls: dict[str, tuple[Function, Expr]] | None = None) -> Expr:
        """The factor over a whole run as an expression of ``t``, the optimizer step from 0.

        ``calls`` is filled in with the Python functions in the schedule, if there are any.
        """
        window = Window(run.total_steps, run, calls={} if calls is None else calls)
        check_fits(self, self.steps(run), window)
        return self.expression(TIME, window)

    def cooldown_from(
        self,
        step: int,
        length: LengthLike,
        *,
        floor: float = 0.0,
        shape: str = "1-sqrt",
        total_steps: int | None = None,
    ) -> Schedule:
        """Follow this schedule up to a checkpoint's step, then decay; the method form of ``cooldown_from``.

        Example:
            >>> from kudari.schedules import constant
            >>> constant().cooldown_from(1000, 100, shape="linear").factor(1050, total_steps=1100)
            0.5
        """
        from kudari.schedules.branch import cooldown_from

        return cooldown_from(self, step, length, floor=floor, shape=shape, total_steps=total_steps)

    def factor(self, step: int, total_steps: int | None = None) -> float:
        """The factor at one optimizer step.

        Args:
            step: from 0; past the end the last value is held.
            total_steps: optimizer steps of the run.

        Returns:
            What the peak value is multiplied by. Loops should use :meth:`bind`, which is faster.
        """
        return _bound(self, total_steps)(step)

    def segments(self, window: Window) -> list[tuple[Schedule, int, int | None]]:
        """``(part, first step, steps)`` of what follows one another; what is no sequence is one part."""
        own = self.steps(window.run)
        return [(self, 0, window.steps if own is None else int(own + Fraction(1, 2)))]

    def attach(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        *,
        epochs: float | None = None,
        steps_per_epoch: int | None = None,
        batch_size: int | None = None,
        tokens_per_step: int | None = None,
        start_step: int = 0,
        groups: Mapping[int | str, Schedule] | None = None,
        also: Mapping[str, Schedule] | None = None,
        independent_decay: bool = False,
    ) -> ScheduleLR:
        """Make a torch ``LRScheduler`` that sets the learning rate of an optimizer.

        The present learning rate of each group (or its ``initial_lr``, as torch has it) is the peak that the
        factor multiplies. Call ``step()`` after every ``optimizer.step()``.

        Args:
            optimizer: any torch optimizer.
            total_steps, epochs, steps_per_epoch, batch_size, tokens_per_step: as for :meth:`bind`.
            start_step: the optimizer step to begin at, for a run that goes on.
            groups: one more factor for some parameter groups, by index or by the group's ``"name"``.
            also: schedules of other hyper-parameters: ``{"weight_decay": linear(0, 1), "betas[0]": s}``.
            independent_decay: keep ``lr * weight_decay``, the share of the weights that decay takes away in a
                step, free of the learning rate's factor.

        Raises:
            ArgumentError: if lengths contradict each other, or a name is not in the parameter groups.

        Example:
            >>> import torch
            >>> from kudari.schedules import linear
            >>> model = torch.nn.Linear(2, 1)
            >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
            >>> scheduler = linear(1, 0).attach(optimizer, total_steps=10)
            >>> optimizer.step(); scheduler.step(); scheduler.get_last_lr()
            [0.45]
        """
        from kudari.schedules.attach import ScheduleLR

        run = RunSize.of(
            total_steps,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            tokens_per_step=tokens_per_step,
        )
        return ScheduleLR(
            optimizer,
            self,
            run,
            start_step=start_step,
            groups=groups,
            also=also,
            independent_decay=independent_decay,
        )

    def __repr__(self) -> str:
        return str(self)

    def __rshift__(self, other: Schedule) -> Schedule:
        if not isinstance(other, Schedule):
            return NotImplemented
        return Sequence((*_flat(Sequence, self), *_flat(Sequence, other)))

    def __mul__(self, other: Schedule | float) -> Schedule:
        if isinstance(other, (int, float)) and not isinstance(other, bool):
            other = _constant(other)
        if not isinstance(other, Schedule):
            return NotImplemented
        return Product((*_flat(Product, self), *_flat(Product, other)))

    def __rmul__(self, other: float) -> Schedule:
        if isinstance(other, (int, float)) and not isinstance(other, bool):
            return _constant(other) * self
        return NotImplemented


def _constant(value: float) -> Schedule:
    from kudari.schedules.curves.constant import constant

    return constant(value)


@functools.lru_cache(maxsize=64)
def _bound(schedule: Schedule, total_steps: int | None) -> Bound:
    return schedule.bind(total_steps)


def check_fits(schedule: Schedule, steps: Fraction | None, window: Window) -> None:
    """Refuse a schedule that is longer than the time it is given; a sequence says it itself, part by part."""
    if isinstance(schedule, Sequence):
        return
    if steps is not None and window.steps is not None and steps > window.steps:
        raise too_long([(schedule, steps)], window.steps)


def too_long(lengths: list[tuple[Schedule, Fraction]], available: int) -> ArgumentError:
    """The error for lengths that add up to more than there is, with the sum written out."""
    total = sum((steps for _, steps in lengths), Fraction(0))
    terms = " + ".join(f"{part} {float(steps):g}" for part, steps in lengths)
    written = f"{terms} = {float(total):g} steps" if len(lengths) > 1 else f"{terms} steps"
    return ArgumentError(
        f"The schedule is longer than the run: {written}, but there are {available} "
        f"({float(total - available):g} too many).",
        fix="Shorten a part, leave one length out so that it takes the rest, or train for longer.",
    )


def _flat(kind: type[Sequence] | type[Product], schedule: Schedule) -> tuple[Schedule, ...]:
    return schedule.children if isinstance(schedule, kind) else (schedule,)


@dataclass(frozen=True, repr=False)
class Sequence(Schedule):
    """One schedule after another, each with its own time from 0; made by ``a >> b``.

    The one part without a length takes what the others leave. After the last part its end value is held.
    """

    children: tuple[Schedule, ...]

    def steps(self, run: RunSize) -> Fraction | None:
        """The sum of the lengths; None if a part takes what is left."""
        lengths = [part.steps(run) for part in self.children]
        known = [steps for steps in lengths if steps is not None]
        return sum(known, Fraction(0)) if len(known) == len(lengths) else None

    def parts(self) -> Iterator[Schedule]:
        """This schedule and every schedule in it."""
        yield self
        for child in self.children:
            yield from child.parts()

    def segments(self, window: Window) -> list[tuple[Schedule, int, int | None]]:
        """``(part, first step, steps)`` for every part that has at least one step.

        Raises:
            ArgumentError: if two parts take what is left, or the lengths add up to more than there is.
        """
        lengths = self._lengths(window)
        # Whole steps by rounding the sums, not the terms: 50% + 50% of 3 steps is 3 steps, not 4.
        result: list[tuple[Schedule, int, int | None]] = []
        end, start = Fraction(0), 0
        for part, steps in zip(self.children, lengths, strict=True):
            if steps is None:
                result.append((part, start, None))
                break
            end += steps
            stop = int(end + Fraction(1, 2))
            if stop > start:
                result.append((part, start, stop - start))
            start = stop
        return result or [(self.children[-1], 0, window.steps)]

    def _lengths(self, window: Window) -> list[Fraction | None]:
        lengths = [part.steps(window.run) for part in self.children]
        open_parts = [i for i, steps in enumerate(lengths) if steps is None]
        if len(open_parts) > 1:
            names = " and ".join(str(self.children[i]) for i in open_parts)
            raise ArgumentError(
                f"In {self} more than one part has no length: {names}.",
                why="Nothing says how they share the rest of the run.",
                fix="Give all but one of them length=.",
            )
        known = [(p, n) for p, n in zip(self.children, lengths, strict=True) if n is not None]
        if window.steps is None:
            if open_parts and open_parts[0] != len(lengths) - 1:
                raise ArgumentError(
                    f"In {self} the part {self.children[open_parts[0]]} takes the rest of the run, "
                    "whose length is not known.",
                    fix="Pass total_steps=, or give the part a length=.",
                )
            return lengths
        rest = window.steps - sum((n for _, n in known), Fraction(0))
        if rest < 0:
            raise too_long(known, window.steps)
        for i in open_parts:
            lengths[i] = rest
        return lengths

    def expression(self, t: Expr, window: Window) -> Expr:
        """One case for each part."""
        segments = self.segments(window)
        part, start, steps = segments[-1]
        result = part.expression(_since(t, start), replace(window, steps=steps, hold=True))
        for part, start, steps in reversed(segments[:-1]):
            inner = replace(window, steps=steps, hold=False)
            result = where(t < start + (steps or 0), part.expression(_since(t, start), inner), result)
        return result

    def __str__(self) -> str:
        return " >> ".join(map(str, self.children))


def _since(t: Expr, start: int) -> Expr:
    return t - start if start else t


@dataclass(frozen=True, repr=False)
class Product(Schedule):
    """Several schedules at once, multiplied; made by ``a * b``. The shorter ones hold their last value."""

    children: tuple[Schedule, ...]

    def steps(self, run: RunSize) -> Fraction | None:
        """The length of the longest part; None if a part takes what time it is given."""
        longest = Fraction(0)
        for part in self.children:
            steps = part.steps(run)
            if steps is None:
                return None
            longest = max(longest, steps)
        return longest

    def parts(self) -> Iterator[Schedule]:
        """This schedule and every schedule in it."""
        yield self
        for child in self.children:
            yield from child.parts()

    def expression(self, t: Expr, window: Window) -> Expr:
        """The product of the parts."""
        result = const(1.0)
        for part in self.children:
            check_fits(part, part.steps(window.run), window)
            result = result * part.expression(t, window)
        return result

    def __str__(self) -> str:
        return " * ".join(f"({p})" if isinstance(p, Sequence) else str(p) for p in self.children)
