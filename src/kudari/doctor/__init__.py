"""The training doctor: names the cause of a training that does not train."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kudari.doctor.catalogue import illness, illnesses
    from kudari.doctor.finding import Finding
    from kudari.doctor.watching import Doctor, watch

_NAMES = {
    "Doctor": "kudari.doctor.watching",
    "Finding": "kudari.doctor.finding",
    "illness": "kudari.doctor.catalogue",
    "illnesses": "kudari.doctor.catalogue",
    "watch": "kudari.doctor.watching",
}

__all__ = ["Doctor", "Finding", "illness", "illnesses", "watch"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'kudari.doctor' has no attribute {name!r}")
