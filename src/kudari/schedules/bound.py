"""A schedule over a run of known length, tabulated a block at a time so that a call costs a list look-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from kudari.compile.expression import Expr, walk
from kudari.errors import ArgumentError
from kudari.schedules.length import RunSize

if TYPE_CHECKING:
    from kudari.schedules.schedule import Schedule

BLOCK = 1024
Array = np.ndarray[Any, np.dtype[np.float64]]


class Bound:
    """A schedule and the run it is for: ``bound(step) -> float``.

    Attributes:
        schedule: what was bound.
        run: the length of the run.
        expression: the factor as an expression of ``t``.
        inputs: numbers that the expression needs besides ``t`` and that change while training.
    """

    def __init__(self, schedule: Schedule, run: RunSize) -> None:
        self.schedule, self.run = schedule, run
        self.expression = schedule.over(run)
        self.inputs: dict[str, float] = {
            node.name: 1.0 for node in walk([self.expression]) if node.op == "hyper" and node.name != "t"
        }
        self._values: list[float] = []
        self._first = 0

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps of the run, None if not known."""
        return self.run.total_steps

    def __call__(self, step: int) -> float:
        """The factor at an optimizer step, which counts from 0; past the end, the last value."""
        index = step - self._first
        if index < 0 or index >= len(self._values):
            index = self._tabulate(step)
        return self._values[index]

    def set_input(self, name: str, value: float) -> None:
        """Change a number that is not time, such as the state of a plateau."""
        self.inputs[name] = value
        self._values = []

    def _tabulate(self, step: int) -> int:
        if step < 0 or step != int(step):
            raise ArgumentError(f"step={step!r} is not a whole number of 0 or more.")
        # Blocks lie on a fixed grid: a value never depends on which step was asked first.
        self._first = int(step) - int(step) % BLOCK
        t = np.arange(self._first, self._first + BLOCK, dtype=np.float64)
        self._values = evaluate_many(self.expression, {"t": t, **self.inputs}).tolist()
        return int(step) - self._first


def evaluate_many(expr: Expr, values: dict[str, Array | float]) -> Array:
    """A scalar expression in float64 for many values of its inputs at once."""
    shape = np.broadcast_shapes(*(np.shape(v) for v in values.values()))
    done: dict[Expr, Any] = {}
    # Branches of `where` that are not taken may divide by zero or take roots of negative numbers.
    with np.errstate(all="ignore"):
        for item in walk([expr]):
            if item.op == "const":
                done[item] = item.value
            elif item.op == "hyper":
                done[item] = values[item.name]
            else:
                done[item] = _MANY[item.op](*(np.float64(done[a]) for a in item.args))
    return np.broadcast_to(np.asarray(done[expr], dtype=np.float64), shape)


_MANY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "atan2": np.arctan2,
    "neg": np.negative,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "sign": np.sign,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "where": lambda c, a, b: np.where(np.asarray(c) != 0, a, b),
    "fma": lambda a, b, c: a * b + c,
}
