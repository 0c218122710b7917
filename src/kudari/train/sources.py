"""What may be passed as ``train`` and ``valid``, and how each becomes batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from kudari.data import BatchLoader, TensorData
from kudari.errors import ArgumentError, DataError
from kudari.train.feeds import Batch, Feed, MemoryFeed, StreamFeed, as_batch, length_of, open_iterator

EVALUATION_BYTES = 16 * 2**20
"""Inputs of one evaluation batch stay below this, but are never fewer samples than a training batch."""

Source = TensorData | BatchLoader | Dataset[Any] | Iterable[Any]


def resolve_source(value: Any, name: str) -> Source:
    """Sort what the user passed: data in memory become :class:`TensorData`, everything else stays iterable.

    Args:
        value: TensorData, a pair of tensors or arrays, TensorDataset, Dataset, DataLoader, BatchLoader or
            iterable.
        name: of the argument, for errors.

    Raises:
        DataError: where it is none of these, empty, or holds NaN or infinity.
    """
    if isinstance(value, TensorData):
        data = value
    elif isinstance(value, TensorDataset) and len(value.tensors) == 2:
        data = TensorData(value.tensors[0], value.tensors[1])
    elif isinstance(value, (tuple, list)) and len(value) == 2 and all(_is_array(part) for part in value):
        data = TensorData(_tensor(value[0], f"{name} inputs"), _tensor(value[1], f"{name} targets"))
    else:
        if not isinstance(value, (Iterable, Dataset)):
            raise DataError(
                f"{name} is a {type(value).__name__}.",
                fix="Pass (X, y), TensorData, a Dataset, a DataLoader, or any iterable of batches (x, y).",
            )
        return value
    if len(data) == 0:
        raise DataError(f"{name} has no samples.", fix="Pass at least one.")
    _check_finite(data, name)
    return data


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) or hasattr(value, "__array__")


def _tensor(value: Any, what: str) -> Tensor:
    """float64 becomes float32 and whole targets int64: what models and losses of torch expect."""
    if not isinstance(value, Tensor):
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise DataError(
                f"{what} have dtype {array.dtype}.",
                fix="Encode them as numbers first; kudari.data.load_path does.",
            )
        value = torch.from_numpy(np.ascontiguousarray(array))
    tensor: Tensor = value
    if tensor.dtype == torch.float64:
        return tensor.float()
    if what.endswith("targets") and not tensor.is_floating_point():
        return tensor.long()
    return tensor


def _check_finite(data: TensorData, name: str) -> None:
    for what, tensor in (("inputs", data.inputs), ("targets", data.targets)):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            rows = (~torch.isfinite(tensor)).reshape(len(tensor), -1).any(1)
            raise DataError(
                f"{name} {what} are NaN or infinite in {int(rows.sum()):,} of {len(tensor):,} samples, "
                f"first in sample {int(rows.nonzero()[0, 0])}.",
                why="One such value makes every weight NaN.",
                fix="Drop those samples or fill the gaps.",
            )


@dataclass(frozen=True)
class FeedOptions:
    """How training batches are made from data that come without a loader.

    Attributes:
        batch_size: samples of a micro-batch, 1 or more.
        accumulate: micro-batches of a step.
        seed: of the run.
        augment: see :class:`kudari.data.BatchLoader`.
        device: where batches go.
    """

    batch_size: int
    accumulate: int
    seed: int
    augment: Any
    device: torch.device


def training_feed(source: Source, options: FeedOptions, seed_step: Callable[[int], None]) -> Feed:
    """Return the steps of a run.

    Raises:
        ArgumentError: where ``augment`` is given and the batches come from elsewhere.
    """
    o = options
    if isinstance(source, TensorData):
        source = BatchLoader(source.to(o.device), o.batch_size, seed=o.seed, augment=o.augment)
    elif o.augment is not None:
        raise ArgumentError(
            "augment= needs train in memory.",
            fix="Augment inside your own loader, or pass (X, y) or TensorData.",
        )
    if isinstance(source, BatchLoader):
        return MemoryFeed(source, o.accumulate, seed_step, o.device)
    if isinstance(source, Dataset):
        shuffle = not isinstance(source, IterableDataset)
        source = DataLoader(source, o.batch_size, shuffle=shuffle, generator=torch.Generator())
    return StreamFeed(source, o.accumulate, o.seed, seed_step, o.device)


@dataclass(frozen=True)
class EvaluationSet:
    """The validation set, iterated in its own order any number of times."""

    source: Source
    batch_size: int
    device: torch.device

    def __post_init__(self) -> None:
        if isinstance(self.source, Iterator):
            raise DataError(
                "valid is an iterator, which can be read once only.",
                fix="Pass a list, a Dataset or a DataLoader.",
            )

    @property
    def data(self) -> TensorData | None:
        """All samples, where they are in memory."""
        return data_in_memory(self.source)

    def __iter__(self) -> Iterator[Batch]:
        data = self.data
        if data is not None:
            yield from self._slices(data)
            return
        source: Any = self.source
        if isinstance(source, Dataset):
            source = DataLoader(source, self.batch_size)
        empty = True
        for item in open_iterator(source):
            empty = False
            yield as_batch(item, self.device, "valid")
        if empty:
            raise DataError("valid yielded nothing.", fix="Pass at least one batch.")

    def _slices(self, data: TensorData) -> Iterator[Batch]:
        each = max(1, data.inputs.nbytes // len(data))
        size = max(self.batch_size, min(len(data), EVALUATION_BYTES // each))
        for x, y in zip(torch.split(data.inputs, size), torch.split(data.targets, size), strict=True):
            yield x.to(self.device), y.to(self.device)


def data_in_memory(source: Source) -> TensorData | None:
    """Return all samples where they are in memory, otherwise None."""
    data = source.data if isinstance(source, BatchLoader) else source
    return data if isinstance(data, TensorData) else None


def describe_source(source: Source, name: str) -> str:
    """Return a short count, such as ``1,437 training samples``."""
    data = data_in_memory(source)
    if data is not None:
        return f"{len(data):,} {name} samples"
    length = length_of(source)
    unit = "samples" if isinstance(source, Dataset) else "batches"
    return f"{name} {unit} from a {type(source).__name__}" if length is None else f"{length:,} {name} {unit}"
