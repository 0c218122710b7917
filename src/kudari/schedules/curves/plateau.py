"""A factor that falls when a metric stops improving."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from kudari.compile.expression import Expr, hyper
from kudari.errors import HyperError, did_you_mean
from kudari.schedules.length import RunSize
from kudari.schedules.schedule import Schedule, Window

INPUT = "plateau"


@dataclass(frozen=True)
class Plateau(Schedule):
    """The settings of a plateau; made by :func:`plateau`."""

    factor_: float
    patience: int
    threshold: float
    mode: str
    threshold_mode: str
    cooldown: int
    floor: float

    def steps(self, run: RunSize) -> Fraction | None:
        """None: it takes what time it is given."""
        return None

    def expression(self, t: Expr, window: Window) -> Expr:
        """The present factor, which depends on the metric and not on time."""
        return hyper(INPUT)

    def __str__(self) -> str:
        default = plateau()
        assert isinstance(default, Plateau)
        shown = [
            f"{field.name.rstrip('_')}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(default, field.name)
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


def plateau(
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    *,
    mode: str = "min",
    threshold_mode: str = "rel",
    cooldown: int = 0,
    floor: float = 0.0,
) -> Schedule:
    """Multiply by ``factor`` when a reported metric stops improving; composes with ``*``.

    Source: torch ReduceLROnPlateau. Differs: the floor is a fraction of the peak, and there is no ``eps``
    below which a reduction is dropped. Report metrics to ``scheduler.report`` or ``bound.report``.

    Args:
        factor: above 0, below 1.
        patience: reports without improvement that are tolerated, 0 or more.
        threshold: smallest improvement that counts, relative (``"rel"``) or absolute (``"abs"``).
        mode: ``"min"`` if small metrics are good, else ``"max"``.
        threshold_mode: ``"rel"`` or ``"abs"``.
        cooldown: reports after a reduction in which nothing is counted.
        floor: 0 to 1.

    Raises:
        HyperError: if a value is outside its range.

    Example:
        >>> bound = (0.5 * plateau(0.1, patience=0)).bind()
        >>> bound.report(1.0), bound.report(2.0), bound(0)
        (False, True, 0.05)
    """
    ranges = {
        "factor": (factor, 0 < factor < 1, "0 < factor < 1"),
        "patience": (patience, patience >= 0, "patience >= 0"),
        "threshold": (threshold, threshold >= 0, "threshold >= 0"),
        "cooldown": (cooldown, cooldown >= 0, "cooldown >= 0"),
        "floor": (floor, 0 <= floor <= 1, "0 <= floor <= 1"),
    }
    for name, (value, good, allowed) in ranges.items():
        if not good:
            raise HyperError(f"plateau: {name}={value!r} is outside its range.", fix=f"Allowed: {allowed}.")
    for name, word, words in (
        ("mode", mode, ("min", "max")),
        ("threshold_mode", threshold_mode, ("rel", "abs")),
    ):
        if word not in words:
            raise HyperError(
                f"plateau: {name}={word!r} is not one of {', '.join(words)}.{did_you_mean(word, words)}"
            )
    return Plateau(factor, patience, threshold, mode, threshold_mode, cooldown, floor)
