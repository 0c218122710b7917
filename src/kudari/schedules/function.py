"""Schedules from any Python function of the step, for what no formula says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from kudari.compile.expression import Expr, hyper
from kudari.compile.notation import minimum
from kudari.errors import ArgumentError
from kudari.schedules.length import Length, LengthLike, RunSize
from kudari.schedules.schedule import Schedule, Window


@dataclass(frozen=True, repr=False)
class Function(Schedule):
    """A Python function of the local step; made by :func:`function`."""

    call: Callable[[int], float]
    cumulative: bool
    length: Length | None

    def steps(self, run: RunSize) -> Fraction | None:
        """The length, None if it is not given."""
        return None if self.length is None else run.steps(self.length, of=run.total_steps)

    def expression(self, t: Expr, window: Window) -> Expr:
        """A name that stands for the function's value; the function is called when values are tabulated."""
        own = self.steps(window.run)
        total = window.steps if own is None else int(own + Fraction(1, 2))
        name = f"f{len(window.calls) + 1}"
        window.calls[name] = (self, t if total is None else minimum(t, total))
        return hyper(name)

    def __str__(self) -> str:
        name = getattr(self.call, "__qualname__", type(self.call).__name__)
        return f"function({name}{', cumulative=True' if self.cumulative else ''})"


def function(
    call: Callable[[int], float], *, cumulative: bool = False, length: LengthLike | None = None
) -> Schedule:
    """Make a schedule of a pure function of the step.

    It composes like any other, but has no formula: it cannot be written to a text and read back.

    Args:
        call: takes the local step from 0, returns the factor, finite.
        cumulative: the factor is the product of ``call(1) ... call(step)``, as in torch MultiplicativeLR;
            otherwise it is ``call(step)``, as in torch LambdaLR.
        length: how long it lasts; None takes what time it is given.

    Raises:
        ArgumentError: if ``call`` cannot be called.

    Example:
        >>> function(lambda step: 0.5**step).factor(2)
        0.25
        >>> function(lambda step: 0.5, cumulative=True).factor(2)
        0.25
    """
    if not callable(call):
        raise ArgumentError(f"function: {call!r} is not a function of the step.")
    return Function(call, cumulative, None if length is None else Length.read(length))
