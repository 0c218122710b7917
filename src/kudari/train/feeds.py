"""Whatever the user trains on, as one stream of steps that can start anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kudari.data import BatchLoader, derive_seed
from kudari.errors import DataError
from kudari.train.signals import children_ignore_interrupts

Batch = tuple[Tensor, Tensor]


class Feed(Protocol):
    """Training batches by optimizer step."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps of one pass over the data, None where only the end of the data tells."""
        ...

    def iterate(self, start_step: int) -> Iterator[tuple[Batch, ...]]:
        """Yield the micro-batches of every step from ``start_step`` on, over all epochs.

        torch's default generators are seeded for a step before its batches are made.
        """
        ...


class MemoryFeed:
    """Steps from a :class:`kudari.data.BatchLoader`; starts anywhere at no cost.

    Args:
        loader: gives micro-batches.
        accumulate: micro-batches of a step; the last step of an epoch may have fewer.
        seed_step: called with the step before its batches are made.
        device: where batches go.
    """

    def __init__(
        self, loader: BatchLoader, accumulate: int, seed_step: Callable[[int], None], device: torch.device
    ) -> None:
        self._loader, self._accumulate, self._seed_step, self._device = loader, accumulate, seed_step, device

    @property
    def steps_per_epoch(self) -> int:
        return -(-self._loader.steps_per_epoch // self._accumulate)

    def iterate(self, start_step: int) -> Iterator[tuple[Batch, ...]]:
        epoch, index = divmod(start_step, self.steps_per_epoch)
        batches = self._loader.iterate(epoch * self._loader.steps_per_epoch + index * self._accumulate)
        if self._loader.data.inputs.device != self._device:
            batches = ((x.to(self._device), y.to(self._device)) for x, y in batches)
        return (
            self._single(start_step, batches) if self._accumulate == 1 else self._several(start_step, batches)
        )

    def _single(self, step: int, batches: Iterator[Batch]) -> Iterator[tuple[Batch, ...]]:
        seed_step = self._seed_step
        while True:
            seed_step(step)
            yield (next(batches),)
            step += 1

    def _several(self, step: int, batches: Iterator[Batch]) -> Iterator[tuple[Batch, ...]]:
        per_epoch, accumulate = self._loader.steps_per_epoch, self._accumulate
        while True:
            done = step % self.steps_per_epoch * accumulate
            self._seed_step(step)
            yield tuple(islice(batches, min(accumulate, per_epoch - done)))
            step += 1


class StreamFeed:
    """Steps from a DataLoader or any other iterable of (x, y); resumes by reading on to its place in the
    epoch.

    The order of a DataLoader becomes a pure function of (seed, epoch): its generator, its sampler's, or else
    torch's default one is seeded when an epoch starts, and ``sampler.set_epoch`` is called where it exists.
    Batches that are skipped on resume are made under the same seeds, so augmentation with torch's generators
    does not shift.

    Args:
        source: iterated once per epoch.
        accumulate: micro-batches of a step; the last step of an epoch may have fewer.
        seed: of the run.
        seed_step: called with the step before its batches are made.
        device: where batches go.
        name: of the argument, for errors.
    """

    def __init__(
        self,
        source: Iterable[Any],
        accumulate: int,
        seed: int,
        seed_step: Callable[[int], None],
        device: torch.device,
        name: str = "train",
    ) -> None:
        self._source, self._accumulate, self._seed = source, accumulate, seed
        self._seed_step, self._device, self._name = seed_step, device, name

    @property
    def steps_per_epoch(self) -> int | None:
        batches = length_of(self._source)
        return None if batches is None else -(-batches // self._accumulate)

    def iterate(self, start_step: int) -> Iterator[tuple[Batch, ...]]:
        expected = self.steps_per_epoch
        epoch, skip = divmod(start_step, expected) if expected else (0, start_step)
        step = start_step - skip
        while True:
            self._seed_step(step)
            batches = self._open(epoch)
            done = 0
            while True:
                self._seed_step(step)
                items = tuple(islice(batches, self._accumulate))
                if not items:
                    break
                if skip:
                    skip -= 1
                else:
                    yield tuple(as_batch(item, self._device, self._name) for item in items)
                step += 1
                done += 1
            self._check_epoch(epoch, done, expected)
            epoch += 1

    def _open(self, epoch: int) -> Iterator[Any]:
        seed = derive_seed("order", self._seed, epoch)
        sampler: Any = getattr(self._source, "sampler", None)
        for owner in (self._source, sampler):
            generator = getattr(owner, "generator", None)
            if isinstance(generator, torch.Generator) and generator is not torch.default_generator:
                generator.manual_seed(seed)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        return open_iterator(self._source)

    def _check_epoch(self, epoch: int, steps: int, expected: int | None) -> None:
        if steps == 0:
            raise DataError(
                f"{self._name} yielded nothing in epoch {epoch}.",
                why="An iterator can be read once; a DataLoader with drop_last=True may have no full batch."
                if epoch
                else "",
                fix="Pass a list or a DataLoader with at least one batch, or fewer steps.",
            )
        if expected is not None and steps != expected:
            raise DataError(
                f"{self._name} says its length is {length_of(self._source)} batches, and epoch {epoch} had "
                f"{steps} steps instead of {expected}.",
                why="Epochs, schedule and resuming are counted from that length.",
                fix="Correct its __len__, or remove it and pass steps= instead of epochs=.",
            )


def length_of(source: object) -> int | None:
    """Return the number of batches, None where the object does not know."""
    try:
        return len(source)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def open_iterator(source: Iterable[Any]) -> Iterator[Any]:
    """Start one pass; worker processes of a DataLoader are told to ignore Ctrl-C."""
    if isinstance(source, DataLoader) and source.num_workers > 0:
        with children_ignore_interrupts():
            return iter(source)
    return iter(source)


def as_batch(item: Any, device: torch.device, name: str = "train") -> Batch:
    """Turn one thing a loader yielded into (inputs, targets) on a device.

    Raises:
        DataError: where it is no pair of tensors or arrays.
    """
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise DataError(
            f"{name} yields {type(item).__name__} objects, which are no pairs.",
            fix="Yield batches (inputs, targets); a collate_fn can pick the two.",
        )
    x, y = item
    try:
        x, y = torch.as_tensor(x), torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} yields ({type(x).__name__}, {type(y).__name__}), which are no tensors.",
            fix="Yield tensors or arrays; a collate_fn can convert them.",
        ) from error
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise DataError(
            f"{name} yields inputs {tuple(x.shape)} with targets {tuple(y.shape)}.",
            fix="The first dimension of both counts the samples of the batch.",
        )
    if device.type == "cpu" and x.device.type == "cpu":
        return x, y
    return x.to(device, non_blocking=True), y.to(device, non_blocking=True)
