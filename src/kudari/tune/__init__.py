"""Recipes, learning rates found by trying, fair races, searches. Loads no torch until a name needs it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kudari.tune.recipe import recipe
from kudari.tune.situation import Hardware

if TYPE_CHECKING:
    from kudari.tune.batch_size import BatchSizes, batch
    from kudari.tune.learning_rate import LrSuggestion, lr
    from kudari.tune.race import compare
    from kudari.tune.results import Race

_NAMES = {
    "lr": "learning_rate",
    "LrSuggestion": "learning_rate",
    "batch": "batch_size",
    "BatchSizes": "batch_size",
    "compare": "race",
    "Race": "results",
}

__all__ = ["BatchSizes", "Hardware", "LrSuggestion", "Race", "batch", "compare", "lr", "recipe"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"kudari.tune.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'kudari.tune' has no attribute {name!r}")
