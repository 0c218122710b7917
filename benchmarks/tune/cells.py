"""Cells (task, optimizer, seed): what a learning rate leads to in each, measured once and kept on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tune.tasks import Task
from torch.optim import Optimizer

from kudari import optim
from kudari.train.options import Options
from kudari.tune.trial import Trials, open_trials

SEEDS = (0, 1, 2)
GRID = 2
"""Grid points in a decade: neighbours are a factor of √10 apart."""
CLEARLY = 0.05
"""The ends of the grid are worse than its best by this share of what was learned."""
LOWEST, HIGHEST = -12, 6
"""Grid points beyond 1e-6 and 1e3 are not tried."""


def _made(name: str, **values: Any) -> Callable[[Any], Optimizer]:
    def make(params: Any) -> Optimizer:
        return optim.get(name)(params, **values)

    return make


# Name in the table, how it is made, and the exponent (in half decades) where the grid begins.
OPTIMIZERS: dict[str, tuple[str, Any, int]] = {
    "sgd": ("sgd", _made("sgd", lr=0.1), -2),
    "momentum": ("sgd", _made("sgd", lr=0.1, momentum=0.9), -3),
    "adamw": ("adamw", "adamw", -5),
    "lion": ("lion", "lion", -6),
    "muon": ("muon", "muon", -3),
}


class Store:
    """A JSON file of numbers, written after every measurement, so that a benchmark can be cut and go on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._values: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: str, measure: Callable[[], Any]) -> Any:
        """The value of a key, measured if it is not there."""
        if key not in self._values:
            self._values[key] = measure()
            draft = self._path.with_suffix(".draft")
            draft.write_text(json.dumps(self._values, indent=0))
            draft.replace(self._path)
        return self._values[key]


@dataclass(frozen=True)
class Cell:
    """One task with one optimizer and one seed."""

    task: Task
    optimizer: str
    seed: int

    @property
    def key(self) -> str:
        return f"{self.task.name} {self.optimizer} {self.seed}"

    def options(self, **changed: Any) -> Options:
        """Arguments of ``fit`` for this cell."""
        values = {
            "loss": self.task.loss,
            "optimizer": OPTIMIZERS[self.optimizer][1],
            "steps": self.task.steps,
            "batch_size": self.task.batch_size,
            "seed": self.seed,
            "threads": 1,
            "device": "cpu",
            "progress": False,
        }
        return Options(**{**values, **changed})

    @contextmanager
    def trials(self, **changed: Any) -> Iterator[Trials]:
        """Trials on this cell."""
        train, valid = self.task.data()
        with open_trials(self.task.model(self.seed), train, valid, self.options(**changed)) as trials:
            yield trials


def outcome(cell: Cell, lr: float, **changed: Any) -> float:
    """Held-out loss after a whole run; infinite where it diverged."""
    found = [math.inf]
    with cell.trials(**changed) as trials:

        def last(step: int) -> bool:
            if step == cell.task.steps:
                found[0] = trials.validate()["loss"]
            return False

        trials.run(lr, cell.task.steps, at=last)
    return found[0] if math.isfinite(found[0]) else math.inf


def untrained(cell: Cell) -> float:
    """Held-out loss of the untrained model."""
    with cell.trials() as trials:
        trials.model.eval()
        return trials.validate()["loss"]


def grid(cell: Cell, store: Store, start: float) -> dict[float, float]:
    """Outcomes for learning rates √10 apart, widened until the best is interior and both ends are worse.

    Args:
        cell: which.
        store: of what was measured.
        start: loss of the untrained model.
    """
    found: dict[int, float] = {}
    wanted = [OPTIMIZERS[cell.optimizer][2] + i for i in (-1, 0, 1)]
    while wanted:
        for k in wanted:
            lr = 10 ** (k / GRID)
            found[k] = store.get(f"{cell.key} {k}", lambda lr=lr: outcome(cell, lr))
        best = min(found, key=lambda k: found[k])
        wanted = [k for k in (best - 2, best - 1, best + 1, best + 2) if k not in found]
        if not wanted:  # a plateau has an interior minimum by chance: both ends must be truly worse
            edge = found[best] + CLEARLY * (start - found[best])
            low, high = min(found), max(found)
            wanted = [
                k for k, worse in ((low - 1, found[low] > edge), (high + 1, found[high] > edge)) if not worse
            ]
        wanted = [k for k in wanted if LOWEST <= k <= HIGHEST]
    return {10 ** (k / GRID): loss for k, loss in sorted(found.items())}
