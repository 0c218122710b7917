"""What a plateau is made of: its settings, which are a schedule, and its state, which is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from kudari.compile.expression import Expr, hyper
from kudari.schedules.length import RunSize
from kudari.schedules.schedule import Schedule, Window

INPUT = "plateau"


@dataclass(frozen=True, repr=False)
class Plateau(Schedule):
    """The settings of a plateau; made by :func:`kudari.schedules.plateau`."""

    factor_: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    mode: str = "min"
    threshold_mode: str = "rel"
    cooldown: int = 0
    floor: float = 0.0

    def steps(self, run: RunSize) -> Fraction | None:
        """None: it takes what time it is given."""
        return None

    def expression(self, t: Expr, window: Window) -> Expr:
        """The present factor, which depends on the metric and not on time."""
        return hyper(INPUT)

    def __str__(self) -> str:
        shown = [
            f"{field.name.rstrip('_')}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"plateau({', '.join(shown)})"


@dataclass
class PlateauState:
    """Where a plateau is: everything besides the step that a run with a plateau must remember.

    Attributes:
        factor: present factor, 1 at first.
        best: best metric so far, None before the first one.
        bad: reports in a row without an improvement.
        waiting: reports left in which nothing is counted, after a reduction.
    """

    factor: float = 1.0
    best: float | None = None
    bad: int = 0
    waiting: int = 0

    def report(self, settings: Plateau, metric: float) -> bool:
        """Take a metric in; returns whether the factor fell."""
        if self._better(settings, metric):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.waiting > 0:
            self.waiting -= 1
            self.bad = 0
        if self.bad <= settings.patience:
            return False
        before, self.factor = self.factor, max(self.factor * settings.factor_, settings.floor)
        self.waiting, self.bad = settings.cooldown, 0
        return self.factor < before

    def _better(self, settings: Plateau, metric: float) -> bool:
        if self.best is None:
            return not math.isnan(metric)
        sign = 1.0 if settings.mode == "min" else -1.0
        if settings.threshold_mode == "rel":
            return sign * metric < sign * self.best * (1 - sign * settings.threshold)
        return sign * metric < sign * self.best - settings.threshold

    def to_dict(self) -> dict[str, Any]:
        """JSON only."""
        return {"factor": self.factor, "best": self.best, "bad": self.bad, "waiting": self.waiting}

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> PlateauState:
        """What :meth:`to_dict` gave."""
        return PlateauState(**{field.name: state[field.name] for field in fields(PlateauState)})
