"""The folder of a run: what is where, and how it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunDir:
    """Paths inside ``runs/<name>/``.

    Example:
        >>> RunDir(Path("runs/digits-1")).metrics.as_posix()
        'runs/digits-1/metrics.jsonl'
    """

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        """The fully resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line; see :mod:`kudari.record.metrics`."""
        return self.path / "metrics.jsonl"

    @property
    def facts(self) -> Path:
        """Everything else the report draws; see :class:`kudari.record.Facts`."""
        return self.path / "facts.json"

    @property
    def model(self) -> Path:
        """The final weights."""
        return self.path / "model.safetensors"

    @property
    def pipeline(self) -> Path:
        """How raw inputs become the model's tensors, for ``kudari predict``."""
        return self.path / "pipeline.json"

    @property
    def checkpoints(self) -> Path:
        """Folder with one checkpoint per save."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The self-contained page."""
        return self.path / "report.html"

    def make(self) -> RunDir:
        """Create the folder and its checkpoint folder; returns itself."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        return self


def new_rundir(root: Path, stem: str) -> RunDir:
    """Create ``root/stem-N`` with the first free N, safe against a second process doing the same."""
    root.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = root / f"{stem}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            continue
        return RunDir(path).make()
