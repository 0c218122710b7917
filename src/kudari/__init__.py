"""Kudari: the optimisation layer for PyTorch. Importing it loads nothing until a name is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kudari import compile, data, doctor, models, optim, record, report, rules, schedules, testing, tune
    from kudari.api import fit
    from kudari.train.run import Run

__version__ = "0.1.0"

_ROOMS = (
    "compile", "data", "doctor", "errors", "models", "optim", "record", "report", "rules", "schedules",
    "testing", "train", "tune",
)  # fmt: skip
_NAMES = {"fit": "kudari.api", "Run": "kudari.train"}

__all__ = [
    "Run", "compile", "data", "doctor", "fit", "models", "optim", "record", "report", "rules", "schedules",
    "testing", "tune",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"kudari.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'kudari' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, *_NAMES})
