"""A schedule over a run of known length, tabulated a block at a time so that a call costs a list look-up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kudari.compile.expression import Expr, walk
from kudari.errors import ArgumentError
from kudari.schedules.length import RunSize
from kudari.schedules.reacting import INPUT, Plateau, PlateauState

if TYPE_CHECKING:
    from kudari.schedules.function import Function
    from kudari.schedules.schedule import Schedule

BLOCK = 1024
Array = np.ndarray[Any, np.dtype[np.float64]]


class Bound:
    """A schedule and the run it is for: ``bound(step) -> float``.

    Attributes:
        schedule: what was bound.
        run: the length of the run.
        expression: the factor as an expression of ``t``.
        calls: Python functions in the schedule, by the name that stands for their value in the expression.
        plateau: the state of the plateau in the schedule, None if there is none.
    """

    def __init__(self, schedule: Schedule, run: RunSize) -> None:
        self.schedule, self.run = schedule, run
        self.calls: dict[str, tuple[Function, Expr]] = {}
        self.expression = schedule.over(run, self.calls)
        self._products: dict[str, list[float]] = {name: [1.0] for name in self.calls}
        found = [part for part in schedule.parts() if isinstance(part, Plateau)]
        if len(found) > 1:
            raise ArgumentError(
                f"{schedule} has {len(found)} plateaus.", fix="Keep one: they see one metric."
            )
        self._settings = found[0] if found else None
        self.plateau = PlateauState() if found else None
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

    def table(self, steps: Sequence[int]) -> list[float]:
        """The factors at many steps at once, in their order."""
        found: list[float] = self._evaluate(np.array(steps, dtype=np.float64)).tolist()
        return found

    def report(self, metric: float) -> bool:
        """Tell the plateau in the schedule a metric; returns whether the factor fell.

        Raises:
            ArgumentError: if there is no plateau in the schedule.
        """
        if self._settings is None or self.plateau is None:
            raise ArgumentError(
                f"{self.schedule} has no plateau to report to.", fix=f"Write {self.schedule} * plateau()."
            )
        fell = self.plateau.report(self._settings, float(metric))
        self._values = []
        return fell

    def state_dict(self) -> dict[str, Any]:
        """What must be remembered besides the step: nothing, or the state of the plateau; JSON only."""
        return {} if self.plateau is None else {"plateau": self.plateau.to_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """What :meth:`state_dict` gave; a plateau that is new to the run begins afresh."""
        if self.plateau is not None:
            saved = state.get("plateau")
            self.plateau = PlateauState() if saved is None else PlateauState.from_dict(saved)
        self._values = []

    def _tabulate(self, step: int) -> int:
        if step < 0 or step != int(step):
            raise ArgumentError(f"step={step!r} is not a whole number of 0 or more.")
        # Blocks lie on a fixed grid: a value never depends on which step was asked first.
        self._first = int(step) - int(step) % BLOCK
        t = np.arange(self._first, self._first + BLOCK, dtype=np.float64)
        self._values = self._evaluate(t).tolist()
        return int(step) - self._first

    def _evaluate(self, t: Array) -> Array:
        values: dict[str, Array | float] = {"t": t}
        if self.plateau is not None:
            values[INPUT] = self.plateau.factor
        for name, (function, local) in self.calls.items():
            values[name] = self._call(name, function, evaluate_many(local, {"t": t}))
        return evaluate_many(self.expression, values)

    def _call(self, name: str, function: Function, local: Array) -> Array:
        """A Python function at every step of a block, asked once for each."""
        steps = np.maximum(local, 0).astype(int).tolist()
        asked = dict.fromkeys(steps, 0.0)
        products = self._products[name]
        for step in asked:
            if function.cumulative:
                while len(products) <= step:
                    products.append(products[-1] * _asked(function, len(products)))
                asked[step] = products[step]
            else:
                asked[step] = _asked(function, step)
        return np.array([asked[step] for step in steps])


def _asked(function: Function, step: int) -> float:
    value: Any = function.call(step)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{function}: at step {step} the function returned {value!r}, which is no number.",
            fix="Return the factor at that step, such as 0.5.",
        ) from None


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
