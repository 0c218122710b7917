"""The metrics log as series to draw: split at values that are not finite, thinned, smoothed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kudari.record import read_metrics

Point = tuple[float, float]

BUCKETS = 360
"""A longer curve is drawn as the lowest and highest value in each of this many buckets of steps."""

RESERVED = frozenset({"kind", "step", "epoch", "seconds"})


@dataclass
class Series:
    """Values of one metric over steps, NaN and infinities included."""

    points: list[Point] = field(default_factory=list)

    @property
    def finite(self) -> list[Point]:
        return [p for p in self.points if math.isfinite(p[1])]

    @property
    def broken(self) -> list[Point]:
        """First point of each stretch of values that are not finite."""
        ends = [(0.0, 0.0), *self.points]
        pairs = zip(ends, self.points, strict=False)
        return [b for a, b in pairs if not math.isfinite(b[1]) and math.isfinite(a[1])]

    def add(self, step: float, value: float) -> None:
        """Append a value; where steps go back (a resume), what was logged beyond that step is dropped."""
        while self.points and self.points[-1][0] >= step:
            self.points.pop()
        self.points.append((step, value))

    def runs(self) -> list[list[Point]]:
        """Stretches of finite values; a line is drawn within one and never across a gap."""
        found: list[list[Point]] = [[]]
        for point in self.points:
            if math.isfinite(point[1]):
                found[-1].append(point)
            elif found[-1]:
                found.append([])
        return [run for run in found if run]


@dataclass(frozen=True)
class Event:
    """Something that happened during the run, such as a resume."""

    step: int
    name: str
    text: str


@dataclass
class History:
    """Everything in ``metrics.jsonl``.

    Attributes:
        train, valid: one series per metric name, in order of appearance.
        events: in the order they were written.
        epoch_of: last logged step and its epoch, to turn steps into epochs; (0, 0) if unknown.
        passes: validation lines as they were written.
    """

    train: dict[str, Series] = field(default_factory=dict)
    valid: dict[str, Series] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    epoch_of: tuple[float, float] = (0.0, 0.0)
    passes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def last_step(self) -> int:
        """Last step any value was logged for."""
        every = [*self.train.values(), *self.valid.values()]
        return int(max((s.points[-1][0] for s in every if s.points), default=0))

    @property
    def first_broken(self) -> tuple[str, int] | None:
        """``training loss`` or ``validation loss`` and the step of its first value that is not finite."""
        groups = (("training loss", self.train), ("validation loss", self.valid))
        broken = [(s[0], name) for name, group in groups if "loss" in group for s in group["loss"].broken[:1]]
        if not broken:
            return None
        step, name = min(broken)
        return name, int(step)


def read_history(path: Path) -> History:
    """Read a metrics log; a missing file is an empty history."""
    history = History()
    if not path.exists():
        return history
    for line in read_metrics(path):
        if line.get("kind") == "event":
            event = Event(int(line["step"]), str(line.get("name", "")), str(line.get("text", "")))
            history.events.append(event)
            continue
        group = history.valid if line.get("kind") == "valid" else history.train
        step = float(line["step"])
        if line.get("kind") == "valid":
            while history.passes and history.passes[-1]["step"] >= step:
                history.passes.pop()
            history.passes.append(line)
        for key, value in line.items():
            if key not in RESERVED and isinstance(value, (int, float)) and not isinstance(value, bool):
                group.setdefault(key, Series()).add(step, float(value))
        if isinstance(line.get("epoch"), (int, float)) and step > 0:
            history.epoch_of = (step, float(line["epoch"]))
    return history


def thin(points: Sequence[Point], buckets: int = BUCKETS) -> list[Point]:
    """Keep the first, lowest, highest and last of each bucket of steps, so that a spike survives.

    Example:
        >>> spike = [(float(i), 9.0 if i == 4321 else 1.0) for i in range(10_000)]
        >>> len(thin(spike, 100)) < 410, max(v for _, v in thin(spike, 100))
        (True, 9.0)
    """
    if len(points) <= 2 * buckets:
        return list(points)
    low, high = points[0][0], points[-1][0]
    width = (high - low) / buckets or 1.0
    kept: list[Point] = []
    start = 0
    for bucket in range(buckets):
        end, limit = start, low + (bucket + 1) * width
        last = bucket == buckets - 1
        while end < len(points) and (last or points[end][0] < limit):
            end += 1
        if end > start:
            inside = points[start:end]
            ends = {min(inside, key=lambda p: p[1]), max(inside, key=lambda p: p[1])}
            if bucket == 0:
                ends.add(inside[0])
            if last:
                ends.add(inside[-1])
            kept += sorted(ends)
        start = end
    return kept


def pick(points: Sequence[Point], count: int) -> list[Point]:
    """At most ``count`` points at even distances, the first and the last among them."""
    if len(points) <= count:
        return list(points)
    spread = (len(points) - 1) / (count - 1)
    return [points[round(i * spread)] for i in range(count)]


def means(points: Sequence[Point], count: int) -> list[Point]:
    """At most ``count`` points, each the mean of neighbouring ones."""
    size = math.ceil(len(points) / count)
    if size <= 1:
        return list(points)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(p[0] for p in g) / len(g), sum(p[1] for p in g) / len(g)) for g in groups]


def smooth(points: Sequence[Point], share: float = 0.04) -> list[Point]:
    """Centred mean over a share of the points, so that the line does not lag.

    At the beginning the window narrows, because there a curve falls steeply; at the end it is cut off.
    Two passes: a single box leaves corners where a spike enters and leaves it.

    Example:
        >>> smooth([(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)], 1.0)
        [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)]
    """
    few = means(points, 2 * BUCKETS)
    half = round(share * len(few) / 2)
    values = [v for _, v in few]
    for _ in range(2):
        # Sums of each window, no running total: one huge spike would wipe out the digits of all that follows.
        windows = [values[max(0, i - half) : i + min(half, i) + 1] for i in range(len(values))]
        values = [sum(window) / len(window) for window in windows]
    return [(step, value) for (step, _), value in zip(few, values, strict=True)]


def all_values(groups: Iterable[Series]) -> list[float]:
    """Every finite value of several series."""
    return [value for series in groups for _, value in series.finite]
