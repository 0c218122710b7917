"""Where a run happened: versions and hardware, as the report prints them."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from kudari.errors import ArgumentError, UnsupportedError
from kudari.train.threads import ThreadPlan


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device to train on.

    Args:
        device: ``"auto"`` takes the first CUDA device if there is one and else the CPU; anything torch
            understands.

    Raises:
        ArgumentError: where the text is no device.
        UnsupportedError: where the device is not available.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ArgumentError(
            f"device={device!r} is no device.", fix="Pass 'auto', 'cpu' or 'cuda:0'."
        ) from error
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UnsupportedError(
            f"device={device!r} is not available: {str(error).splitlines()[0]}", fix="Pass device='cpu'."
        ) from error
    return chosen


def describe_environment(device: torch.device, threads: ThreadPlan, precision: str) -> Mapping[str, str]:
    """Return name and value pairs in the order to print."""
    return {
        "kudari": _kudari_version(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": f"{threads.count} ({threads.why})",
        "precision": precision,
        "cpu": cpu_name(),
        "cores": str(os.cpu_count() or "unknown"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _kudari_version() -> str:
    # Through the table of modules: the package's own file stands above every room.
    return str(getattr(sys.modules["kudari"], "__version__", "unknown"))


def cpu_name() -> str:
    """Return the processor's name, or the architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
