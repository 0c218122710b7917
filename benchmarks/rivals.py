"""The same optimizers in other packages: what our step is timed against.

Every entry is a function from parameters to an optimizer of theirs, at their defaults but for what makes the
work comparable (SGD with momentum). Packages that are not installed are left out and named.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch

Maker = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]

# Optimizers that torch has a fused C++ kernel for on the CPU; others must be 3 times faster than anybody's.
TORCH_FUSES = ("SGD", "Adagrad", "Adam", "AdamW")

_TORCH = (
    "SGD", "Adagrad", "Adadelta", "RMSprop", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adafactor", "Muon",
)  # fmt: skip
_OTHERS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "pytorch_optimizer": {
        "Adafactor": ("AdaFactor", {}),
        "LAMB": ("Lamb", {}),
        "LARS": ("LARS", {}),
        "Lion": ("Lion", {}),
        "Adan": ("Adan", {}),
        "ADOPT": ("ADOPT", {}),
        "AdEMAMix": ("AdEMAMix", {}),
        "MARS": ("MARS", {}),
        "StableAdamW": ("StableAdamW", {}),
        "ScheduleFreeSGD": ("ScheduleFreeSGD", {}),
        "ScheduleFreeAdamW": ("ScheduleFreeAdamW", {}),
        "Prodigy": ("Prodigy", {}),
        "SOAP": ("SOAP", {}),
        "Shampoo": ("Shampoo", {"preconditioning_compute_steps": 10}),
    },
    "optimi": {
        "SGD": ("SGD", {"lr": 1e-3, "momentum": 0.9}),
        "Adam": ("Adam", {"lr": 1e-3}),
        "AdamW": ("AdamW", {"lr": 1e-3}),
        "RAdam": ("RAdam", {"lr": 1e-3}),
        "Lion": ("Lion", {"lr": 1e-4}),
        "Adan": ("Adan", {"lr": 1e-3}),
        "StableAdamW": ("StableAdamW", {"lr": 1e-3}),
    },
    "schedulefree": {
        "ScheduleFreeSGD": ("SGDScheduleFree", {}),
        "ScheduleFreeAdamW": ("AdamWScheduleFree", {}),
    },
    "prodigyopt": {"Prodigy": ("Prodigy", {})},
}


def rivals(name: str) -> tuple[dict[str, Maker], list[str]]:
    """Everybody's optimizer of a name.

    Args:
        name: class name in kudari.optim.

    Returns:
        Makers by a label such as ``torch fused``, and the packages that would have one but are not installed.
    """
    found: dict[str, Maker] = {}
    missing: list[str] = []
    if name in _TORCH:
        found |= _of_torch(name)
    for package, table in _OTHERS.items():
        if name not in table:
            continue
        try:
            module = importlib.import_module(package)
        except ImportError:
            missing.append(package)
            continue
        class_name, given = table[name]
        found[package] = _maker(getattr(module, class_name), given)
    return found, missing


def _of_torch(name: str) -> dict[str, Maker]:
    made = getattr(torch.optim, name)
    given: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
    if name == "Muon":
        return {"torch": _maker(made, given)}
    table = {
        "torch foreach": _maker(made, {**given, "foreach": True}),
        "torch loop": _maker(made, {**given, "foreach": False}),
    }
    if name in TORCH_FUSES:
        table["torch fused"] = _maker(made, {**given, "fused": True})
    return table


def _maker(made: Callable[..., torch.optim.Optimizer], given: dict[str, Any]) -> Maker:
    def make(params: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = made(params, **given)
        if hasattr(optimizer, "train"):
            optimizer.train()
        return optimizer

    return make
