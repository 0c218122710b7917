"""What races and searches find, as the report draws it. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

Status = Literal["finished", "stopped", "diverged"]
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Entry:
    """One run of a race.

    Attributes:
        optimizer, seed, lr: of the run.
        status: ``stopped`` where it was among the worst at a checkpoint, ``diverged`` where the loss was not
            finite.
        steps: done.
        values: validation metrics at the end, empty unless it finished.
        curve: (step, validation loss) at every checkpoint.
        step_seconds: median of a step.
        state_bytes: of the optimizer.
    """

    optimizer: str
    seed: int
    lr: float
    status: Status
    steps: int
    values: Mapping[str, float]
    curve: tuple[tuple[int, float], ...]
    step_seconds: float
    state_bytes: int


@dataclass(frozen=True)
class Tuned:
    """The learning rate a contender races with, and how it was found."""

    optimizer: str
    lr: float
    confidence: str
    why: str
    spent: float


@dataclass(frozen=True)
class Standing:
    """A contender over its seeds; ``mean`` and ``spread`` (standard deviation) of every metric."""

    optimizer: str
    lr: float
    mean: Mapping[str, float]
    spread: Mapping[str, float]
    finished: int
    stopped: int
    diverged: int
    step_seconds: float
    state_bytes: int


@dataclass(frozen=True)
class Race:
    """A finished race.

    Attributes:
        title: what was trained on.
        metric, better: what decides, and which way is up.
        steps: of every run.
        seeds: in the order they were run.
        tuned, entries: how rates were found, and every run.
        said: sentences about the data and the protocol.
    """

    title: str
    metric: str
    better: Better
    steps: int
    seeds: tuple[int, ...]
    tuned: tuple[Tuned, ...]
    entries: tuple[Entry, ...]
    said: tuple[str, ...] = ()

    def standings(self) -> tuple[Standing, ...]:
        """Contenders, the best mean first; then those that lost a run on the way, last those that lost all.

        A mean over the seeds that were not stopped is one over the lucky ones.
        """
        found = [self._standing(t) for t in self.tuned]
        sign = -1 if self.better == "higher" else 1

        def place(s: Standing) -> tuple[bool, bool, float]:
            return not s.finished, s.stopped + s.diverged > 0, sign * s.mean.get(self.metric, math.inf)

        return tuple(sorted(found, key=place))

    def _standing(self, tuned: Tuned) -> Standing:
        mine = [e for e in self.entries if e.optimizer == tuned.optimizer]
        done = [e for e in mine if e.status == "finished"]
        names = list(done[0].values) if done else []
        values = {name: [e.values[name] for e in done] for name in names}
        return Standing(
            optimizer=tuned.optimizer,
            lr=tuned.lr,
            mean={name: fmean(v) for name, v in values.items()},
            spread={name: stdev(v) if len(v) > 1 else math.nan for name, v in values.items()},
            finished=len(done),
            stopped=sum(e.status == "stopped" for e in mine),
            diverged=sum(e.status == "diverged" for e in mine),
            step_seconds=min((e.step_seconds for e in mine), default=math.nan),
            state_bytes=max((e.state_bytes for e in mine), default=0),
        )


@dataclass(frozen=True)
class Attempt:
    """One configuration of a search; ``value`` is None where it was stopped or failed."""

    number: int
    values: Mapping[str, float | int | str]
    value: float | None
    status: Status
    seconds: float


@dataclass(frozen=True)
class Search:
    """A search so far.

    Attributes:
        title: what was trained on.
        metric, better: what decides, and which way is up.
        attempts: in the order they were run.
        importance: share of each key in what the values explain, 0 to 1; empty with too few attempts.
        said: sentences about the data and the protocol.
    """

    title: str
    metric: str
    better: Better
    attempts: tuple[Attempt, ...]
    importance: Mapping[str, float] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def best(self) -> Attempt | None:
        """The best that finished."""
        done = [a for a in self.attempts if a.value is not None and a.status == "finished"]
        sign = -1 if self.better == "higher" else 1
        return min(done, key=lambda a: sign * (a.value or 0.0), default=None)
