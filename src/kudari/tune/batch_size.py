"""``kudari.tune.batch``: the largest batch that fits and the one that is fastest, by trying."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from kudari.errors import ArgumentError
from kudari.train.options import Options
from kudari.tune.trial import open_trials, shaped

SHARE = 0.5
"""Share of the available memory that a batch may be expected to fill on the CPU."""

GAIN = 1.05
"""A larger batch is worth it where it is faster by this factor."""


@dataclass(frozen=True)
class Tried:
    """One batch size: seconds of a step (median), samples per second, bytes kept for the backward pass."""

    batch_size: int
    step_seconds: float
    samples_per_second: float
    kept_bytes: int


@dataclass(frozen=True)
class BatchSizes:
    """What :func:`batch` found.

    Attributes:
        fastest: the smallest batch within 5 % of the most samples per second.
        largest: the largest that fits, or all samples.
        limit: what bounded ``largest``, in words.
        tried: every size, by size.
    """

    fastest: int
    largest: int
    limit: str
    tried: tuple[Tried, ...]


def batch(
    model: nn.Module,
    loss: Any,
    data: Any,
    optimizer: Any = "adamw",
    *,
    memory_bytes: int | None = None,
    steps: int = 5,
    most: int | None = None,
    **options: Any,
) -> BatchSizes:
    """Try batch sizes, doubling, until memory or data end; nothing is left behind.

    On the CPU the memory of the next size is foreseen from the last one, by the bytes that autograd keeps,
    and a size that would fill more than ``memory_bytes`` is not tried: the system would kill the process or
    begin to swap. On a GPU a size that does not fit raises there, and is caught.

    Args:
        model, loss, data, optimizer: as for :func:`kudari.tune.lr`; ``data`` must be in memory.
        memory_bytes: what a step may take on the CPU; None takes half of what is available.
        steps: timed for each size, 1 or more; one more comes before them.
        most: largest size to try.
        options: other keyword arguments of :func:`kudari.fit`.

    Returns:
        :class:`BatchSizes`.

    Raises:
        ArgumentError: the data come in batches of their own, or not even one sample fits.

    Example:
        >>> found = kudari.tune.batch(model, "cross_entropy", (X, y))  # doctest: +SKIP
        >>> found.fastest, found.largest  # doctest: +SKIP
        (256, 1347)
    """
    for name, value, good in (
        ("steps", steps, 5),
        ("most", most, 256),
        ("memory_bytes", memory_bytes, 2**32),
    ):
        if value is not None and value < 1:
            raise ArgumentError(f"{name}={value} is below 1.", fix=f"Pass {name}={good}.")
    samples = _samples(data)
    if samples == 0:
        raise ArgumentError("data has no samples.", fix="Pass at least one.")
    allowed = memory_bytes if memory_bytes is not None else int(SHARE * available_bytes())
    end = min(samples, most) if most else samples
    tried: list[Tried] = []
    limit = "the data" if not most or most >= samples else f"most={most}"
    # Batch norm has no variance of a single sample.
    normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    size = min(2 if normed else 1, end)
    while True:
        if tried and _foreseen(tried, size) > allowed:
            limit = f"memory: {size:,} samples would need about {_mib(_foreseen(tried, size))}"
            break
        try:
            run = shaped(
                "tune.batch", options, loss=loss, optimizer=optimizer, batch_size=size, steps=steps + 1,
                epochs=None,
            )  # fmt: skip
            tried.append(_try(model, data, run, steps))
        except (torch.OutOfMemoryError, MemoryError) as error:
            limit = f"memory: {size:,} samples do not fit"
            if not tried:
                raise _nothing_fits(size) from error
            break
        finally:
            _give_back()
        if tried[-1].kept_bytes > allowed:
            if len(tried) == 1:
                raise _nothing_fits(
                    size, f" It needs {_mib(tried[0].kept_bytes)} of {_mib(allowed)} allowed."
                )
            limit = f"memory: {size:,} samples need about {_mib(tried[-1].kept_bytes)}"
            break
        if size >= end:
            break
        size = min(size * 2, end)
    fits = [t for t in tried if t.kept_bytes <= allowed]
    best = max(t.samples_per_second for t in fits)
    fastest = next(t for t in fits if t.samples_per_second * GAIN >= best)
    return BatchSizes(fastest.batch_size, fits[-1].batch_size, limit, tuple(tried))


def _nothing_fits(size: int, more: str = "") -> ArgumentError:
    return ArgumentError(
        f"Not even the smallest batch, of {size}, fits into memory.{more}", fix="Make the model smaller."
    )


def _mib(size: float) -> str:
    mib = size / 2**20
    return f"{mib:,.1f} MiB" if mib >= 1 else f"{mib:.2g} MiB"


def _samples(data: Any) -> int:
    found = getattr(data, "train", data)
    if isinstance(found, (tuple, list)) and len(found) == 2 and hasattr(found[0], "__len__"):
        return len(found[0])
    if hasattr(found, "inputs") and hasattr(found, "targets"):
        return len(found)
    if isinstance(found, torch.utils.data.Dataset) and hasattr(found, "__len__"):
        return len(found)
    raise ArgumentError(
        f"data is a {type(found).__name__}, which makes batches of its own.",
        fix="Pass (X, y), TensorData, a Bundle or a Dataset, from which batches of any size can be made.",
    )


def _try(model: nn.Module, data: Any, options: Options, steps: int) -> Tried:
    """Time a few steps; the first is not counted."""
    size = options.batch_size
    kept = _Kept()
    options = dataclasses.replace(options, schedule=None)
    with open_trials(model, data, None, options) as trials:
        device = next(trials.model.parameters()).device
        with kept.counting():
            trials.run(trials.lr, 1)
        marks = [time.perf_counter()]

        def at(step: int) -> bool:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            marks.append(time.perf_counter())
            return False

        trials.run(trials.lr, steps + 1, at=at)
        state = sum(p.numel() * p.element_size() for p in trials.model.parameters())
    seconds = median(b - a for a, b in pairwise(marks[1:]))
    return Tried(size, seconds, size / max(seconds, 1e-9), kept.total + 4 * state)


class _Kept:
    """Adds up what autograd keeps of a forward pass; a tensor kept twice counts once."""

    def __init__(self) -> None:
        self.total = 0
        self._seen: set[int] = set()

    def _pack(self, tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in self._seen:
            self._seen.add(tensor.data_ptr())
            self.total += tensor.nbytes
        return tensor

    def counting(self) -> contextlib.AbstractContextManager[Any]:
        """Inside the block every tensor kept for a backward pass is counted."""
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)


def _foreseen(tried: list[Tried], size: int) -> float:
    """Bytes of a larger batch, from the line through the last two."""
    last = tried[-1]
    if len(tried) == 1:
        return last.kept_bytes * size / last.batch_size
    before = tried[-2]
    slope = (last.kept_bytes - before.kept_bytes) / max(1, last.batch_size - before.batch_size)
    return last.kept_bytes + max(0.0, slope) * (size - last.batch_size)


def available_bytes() -> int:
    """Memory that can be had without swapping: of the system, or of the control group if that has less.

    Example:
        >>> available_bytes() > 0
        True
    """
    found = [_from_meminfo(), *_from_cgroup()]
    known = [value for value in found if math.isfinite(value) and value > 0]
    return int(min(known)) if known else 2 * 2**30


def _from_meminfo() -> float:
    path = Path("/proc/meminfo")
    for line in path.read_text(encoding="ascii").splitlines() if path.is_file() else ():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return math.nan


def _from_cgroup() -> Iterator[float]:
    folder = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit = float((folder / "memory.max").read_text())
        yield limit - float((folder / "memory.current").read_text())


def _give_back() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
