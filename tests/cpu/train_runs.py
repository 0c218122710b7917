"""Small models and data for the tests of training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kudari.train import Run, fit

FEATURES, CLASSES = 6, 3


def points(count: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points of three classes that a small network can tell apart."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, FEATURES, generator=generator)
    return x, x[:, :CLASSES].argmax(1)


def network(dropout: float = 0.0, seed: int = 1) -> nn.Sequential:
    """A network with hidden units, a norm with running statistics, and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(FEATURES, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(16, CLASSES),
        )


def linear(seed: int = 1, outputs: int = CLASSES) -> nn.Linear:
    """One linear map."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(FEATURES, outputs)


def quiet_fit(model: nn.Module, train: Any, valid: Any = None, **options: Any) -> Run:
    """``fit`` without output; learning rates high enough to see something happen."""
    if "optimizer" not in options:
        options.setdefault("lr", 0.01)
    return fit(model, train, valid, progress=False, **options)


def same_bits(a: nn.Module, b: nn.Module) -> bool:
    """Whether all weights and buffers are equal, bit for bit."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def lines(run: Run, kind: str) -> list[dict[str, Any]]:
    """Lines of the metrics log of one kind."""
    text = run.dir.metrics.read_text(encoding="utf-8")
    return [line for line in map(json.loads, text.splitlines()) if line["kind"] == kind]


def newest_checkpoint(folder: Path) -> Path:
    """The checkpoint of the highest step."""
    return max((folder / "checkpoints").glob("step-*"))
