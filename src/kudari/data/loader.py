"""Batches from memory, in an order that can be worked out for any step.

One ``index_select`` per epoch puts the samples into that epoch's order; a batch is then a view of the result.
There is no work per sample in Python and nothing to replay on resume.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kudari.data.augment import Augment
from kudari.data.bundle import TensorData
from kudari.data.seeds import derive_seed
from kudari.errors import ArgumentError, DataError

Batch = tuple[Tensor, Tensor]

EPOCH_COPY_LIMIT_BYTES = 256 * 2**20
"""Inputs of more bytes are not copied into the order of an epoch; every batch is gathered on its own."""


class BatchLoader:
    """Shuffled batches of :class:`TensorData`, a pure function of (seed, step).

    Independent of torch's global random state. Batches are views of a copy or, with ``shuffle=False``, of the
    data themselves: do not change them in place. Up to 256 MiB of inputs are copied once per epoch (while the
    last batch of the epoch before is held, two copies exist); larger inputs are gathered batch by batch, in
    the same order.

    Args:
        data: samples on any device; batches are on the same one.
        batch_size: samples per batch, 1 or more. The last batch of an epoch may be smaller.
        seed: 0 or more.
        shuffle: a new order every epoch; otherwise the order of the data.
        drop_last: leave out the smaller last batch.
        augment: called as ``augment(x, y, generator)`` on every batch.

    Raises:
        ArgumentError: where ``batch_size`` or ``seed`` is out of range.
        DataError: where there is no batch at all.

    Example:
        >>> data = TensorData(torch.arange(10.0).reshape(10, 1), torch.arange(10))
        >>> loader = BatchLoader(data, 4, seed=1)
        >>> loader.steps_per_epoch
        3
        >>> x, y = loader.batch(5)  # the last batch of the second epoch
        >>> len(x)
        2
    """

    def __init__(
        self,
        data: TensorData,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        augment: Augment | None = None,
    ) -> None:
        if batch_size < 1:
            raise ArgumentError(f"batch_size={batch_size} is below 1.", fix="Pass 1 or more.")
        if seed < 0:
            raise ArgumentError(f"seed={seed} is below 0.", fix="Pass 0 or more.")
        if len(data) == 0:
            raise DataError("There are no samples to make batches of.")
        if drop_last and batch_size > len(data):
            raise DataError(
                f"batch_size={batch_size} is more than the {len(data)} samples: drop_last leaves nothing.",
                fix="Lower batch_size or pass drop_last=False.",
            )
        self.data, self.batch_size, self.seed = data, batch_size, seed
        self.shuffle, self.drop_last, self.augment = shuffle, drop_last, augment
        whole, rest = divmod(len(data), batch_size)
        self._steps_per_epoch = whole if drop_last or not rest else whole + 1
        self._passes = 0
        self._last_order: tuple[int, Tensor] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the data."""
        return self._steps_per_epoch

    def __len__(self) -> int:
        return self._steps_per_epoch

    def order(self, epoch: int) -> Tensor:
        """Return the rows of one epoch in their order, int64, on the device of the data.

        A pure function of (seed, epoch); drawn on the CPU, so that it is the same for every device.
        """
        if self._last_order is not None and self._last_order[0] == epoch:
            return self._last_order[1]
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed("order", self.seed, epoch))
            rows = torch.randperm(len(self.data), generator=generator)
        else:
            rows = torch.arange(len(self.data))
        rows = rows[: self._steps_per_epoch * self.batch_size].to(self.data.inputs.device)
        self._last_order = (epoch, rows)
        return rows

    def batch(self, step: int) -> Batch:
        """Return the batch of one optimizer step, counted from 0 over all epochs.

        Any step in any order; steps of one epoch share the work of ordering it.

        Raises:
            ArgumentError: where ``step`` is below 0.
        """
        epoch, index = self._place(step)
        rows = self.order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        x, y = self.data.inputs.index_select(0, rows), self.data.targets.index_select(0, rows)
        if self.augment is None:
            return x, y
        generator = torch.Generator(x.device).manual_seed(derive_seed("augment", self.seed, step))
        return self.augment(x, y, generator)

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``start_step``, ``start_step + 1`` and so on, without an end.

        The same batches as :meth:`batch` gives, faster.

        Raises:
            ArgumentError: where ``start_step`` is below 0.
        """
        epoch, index = self._place(start_step)
        return self._endless(epoch, index)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of one epoch; every new pass over this object is the next epoch."""
        epoch, self._passes = self._passes, self._passes + 1
        return self._epoch(epoch, 0)

    def _place(self, step: int) -> tuple[int, int]:
        if step < 0:
            raise ArgumentError(f"step={step} is below 0.", fix="Steps count from 0.")
        return divmod(step, self._steps_per_epoch)

    def _endless(self, epoch: int, index: int) -> Iterator[Batch]:
        while True:
            yield from self._epoch(epoch, index)
            epoch, index = epoch + 1, 0

    def _epoch(self, epoch: int, index: int) -> Iterator[Batch]:
        batches = self._plain(epoch, index)
        return batches if self.augment is None else self._augmented(batches, epoch, index)

    def _plain(self, epoch: int, index: int) -> Iterator[Batch]:
        inputs, targets = self.data.inputs, self.data.targets
        first, last = index * self.batch_size, self._steps_per_epoch * self.batch_size
        if not self.shuffle:
            inputs, targets = inputs[first:last], targets[first:last]
        else:
            rows = self.order(epoch)[first:]
            if inputs.nbytes > EPOCH_COPY_LIMIT_BYTES:
                return (
                    (inputs.index_select(0, part), targets.index_select(0, part))
                    for part in torch.split(rows, self.batch_size)
                )
            inputs, targets = inputs.index_select(0, rows), targets.index_select(0, rows)
        size = self.batch_size
        return zip(torch.split(inputs, size), torch.split(targets, size), strict=True)

    def _augmented(self, batches: Iterator[Batch], epoch: int, index: int) -> Iterator[Batch]:
        assert self.augment is not None
        generator = torch.Generator(self.data.inputs.device)
        step = epoch * self._steps_per_epoch + index
        for x, y in batches:
            yield self.augment(x, y, generator.manual_seed(derive_seed("augment", self.seed, step)))
            step += 1
