"""What a pass launches on a GPU once tensors' numbers are there: blocks of elements or tiles of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kudari.compile.gpu import GpuKernel, make_gpu_plan
from kudari.compile.program import Shape, sum_name
from kudari.compile.triton.rows import stages
from kudari.compile.triton.tiles import make_tile_plan

# Scratch of each tensor begins at a multiple of so many numbers, so that loads of it can be wide.
_TOGETHER = 16


@dataclass(frozen=True)
class Tables:
    """What every pass reads, on the device.

    Attributes:
        slots: int64, the table of addresses.
        scalars: numbers of each tensor (tensors, numbers).
        sums: float64 (tensors, sums of the program).
        draws: int64 (tensors, 1), keys of random bits.
    """

    slots: Tensor
    scalars: Tensor
    sums: Tensor
    draws: Tensor

    def fixed(self, values: npt.NDArray[np.int64]) -> Tensor:
        """An array that never changes, on the device."""
        return torch.from_numpy(values).to(self.slots.device)

    def partials(self, count: int) -> Tensor:
        """Room for the sums of so many blocks or tiles."""
        return torch.zeros((max(1, count), self.sums.shape[1]), dtype=torch.float64, device=self.slots.device)


class Work(Protocol):
    """The launches of a pass."""

    def run(self, number: int, flag: Tensor, aligned: bool) -> None:
        """Launch a pass.

        Args:
            number: which.
            flag: one number on the device; where it is not zero nothing is done.
            aligned: whether every address in the table is a multiple of 16.
        """
        ...


class Blocks:
    """Passes over elements: one launch for all blocks of all tensors, and one that adds up their sums.

    Args:
        kernel: what to launch.
        sizes: elements of each tensor.
        tables: what the kernel reads.
    """

    def __init__(self, kernel: GpuKernel, sizes: Sequence[int], tables: Tables) -> None:
        self.kernel, self.tables, self.tensors = kernel, tables, len(sizes)
        self.cuts = {k: self._cut(sizes, k) for k in {part.every for part in kernel.program.passes}}

    def _cut(self, sizes: Sequence[int], every: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Blocks, sizes, partial sums and each tensor's first block, of every so many-th element."""
        plan = make_gpu_plan([-(-size // every) for size in sizes], self.kernel.block)
        blocks, firsts, lengths = map(self.tables.fixed, (plan.blocks, plan.firsts, plan.sizes))
        return blocks, lengths, self.tables.partials(len(plan.blocks)), firsts

    def run(self, number: int, flag: Tensor, aligned: bool) -> None:
        """Launch a pass."""
        part, tables = self.kernel.program.passes[number], self.tables
        blocks, sizes, partials, firsts = self.cuts[part.every]
        if len(blocks):  # a rank may hold nothing of its tensors
            arguments = (blocks, tables.slots, tables.scalars, sizes, partials, tables.draws, flag)
            self.kernel.elements(number, len(blocks), arguments, aligned)
        if part.sums:
            self.kernel.sums(number, self.tensors, (partials, firsts, tables.sums, flag))


class Tiles:
    """Passes by rows: one launch for all tiles of one shape, and one that folds sums of rows and columns.

    Args:
        kernel: what to launch.
        shapes: (matrices, rows, columns) of each tensor.
        tables: what the kernel reads.
        slots: the table of addresses on the host; those of scratch slots are written into it.
    """

    def __init__(
        self,
        kernel: GpuKernel,
        shapes: Sequence[tuple[int, int, int]],
        tables: Tables,
        slots: npt.NDArray[np.int64],
    ) -> None:
        self.kernel, self.tables, self.tensors = kernel, tables, len(shapes)
        plan = make_tile_plan(shapes, kernel.block)
        self.launches = [
            (x, tables.fixed(x.tiles), tables.fixed(x.groups)) for x in plan.launches if len(x.tiles)
        ]
        self.dims, self.firsts = tables.fixed(plan.dims), tables.fixed(plan.firsts)
        self.partials = tables.partials(int(plan.firsts[-1]))
        program = kernel.program
        summed = {sum_name(i) for i in range(len(program.sums))}
        totals = {v.name for part in program.passes for v in part.vectors if v.total}
        self.scratch: list[Tensor] = []
        for index, slot in enumerate(program.slots):
            if slot.scratch:
                room = plan.room if slot.name in summed else plan.lines
                room = plan.room_for_totals if slot.name in totals else room
                slots[:, index] = self._scratch(room(slot.shape))
        self.folds = [tables.fixed(plan.folds(self._line_sums(i))) for i in range(len(program.passes))]

    def _scratch(self, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Addresses of room for so many numbers of each tensor."""
        sizes = -(-sizes // _TOGETHER) * _TOGETHER
        room = self.tables.scalars.new_zeros(int(sizes.sum()))
        self.scratch.append(room)
        addresses: npt.NDArray[np.int64] = room.data_ptr() + room.element_size() * (np.cumsum(sizes) - sizes)
        return addresses

    def _line_sums(self, number: int) -> list[tuple[int, Shape]]:
        """Slot and shape of each of a pass's sums that have one value a row or column."""
        part, slots = self.kernel.program.passes[number], self.kernel.program.slots
        names = [sum_name(part.first_sum + i) for i in range(len(part.sums))]
        return [(i, s.shape) for i, s in enumerate(slots) if s.name in names]

    def run(self, number: int, flag: Tensor, aligned: bool) -> None:
        """Launch a pass."""
        part, tables, dims = self.kernel.program.passes[number], self.tables, self.dims
        arguments: tuple[Any, ...]
        for stage in range(len(stages(part))):
            for launch, _, groups in self.launches:
                arguments = (groups, tables.slots, tables.scalars, dims, flag)
                self.kernel.vectors(number, stage, launch, arguments)
        for launch, tiles, _ in self.launches:
            arguments = (
                tiles,
                tables.slots,
                tables.scalars,
                dims,
                self.partials,
                tables.draws,
                self.firsts,
                flag,
            )
            self.kernel.tiles(number, launch, arguments, aligned)
        if len(self.folds[number]):
            self.kernel.fold(len(self.folds[number]), (self.folds[number], tables.slots, flag))
        if any(s.scope in ("tensor", "model") for s in part.sums):
            self.kernel.sums(number, self.tensors, (self.partials, self.firsts, tables.sums, flag))
