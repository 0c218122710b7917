"""Small counters that trackers share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Hits:
    """How often something was seen, when first, and what it looked like.

    Attributes:
        count: times seen.
        first_step: optimizer step (from 0) of the first time.
        detail: numbers of the latest time.
    """

    count: int = 0
    first_step: int = -1
    detail: dict[str, Any] = field(default_factory=dict)

    def hit(self, step: int, **detail: Any) -> None:
        """Count one time."""
        if not self.count:
            self.first_step = step
        self.count += 1
        if detail:
            self.detail = detail

    def evidence(self, **more: Any) -> dict[str, Any]:
        """``count``, ``first_step`` and more numbers, as findings carry them."""
        return {"count": self.count, "first_step": self.first_step, **self.detail, **more}


@dataclass
class Series:
    """Values by step, thinned out by halves when it grows beyond ``limit``."""

    limit: int = 20000
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    stride: int = 1
    offered: int = 0

    def add(self, step: int, value: float) -> None:
        """Keep one value."""
        if self.offered % self.stride == 0:
            self.steps.append(step)
            self.values.append(value)
            if len(self.values) > self.limit:
                self.steps, self.values, self.stride = self.steps[::2], self.values[::2], self.stride * 2
        self.offered += 1
