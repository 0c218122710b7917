"""Bindings on a GPU: the tables of a group where its kernels read them, and a step without waiting.

Everything a step needs from the host is in one table, sent when something in it has changed. Step counts,
sums and the numbers made from them never leave the device, nor does GradScaler's flag: a step that it forbids
is launched like any other and does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kudari.compile.gpu import GpuKernel
from kudari.compile.program import Program
from kudari.optim.binding import CpuBinding, matrices
from kudari.optim.gpu_work import Blocks, Tables, Tiles, Work
from kudari.optim.members import Member
from kudari.optim.states import real


def capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is taking up what is launched now."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class SentTable:
    """A table of 8-byte words that the host writes and a device reads.

    Args:
        words: how many.
        device: where it is read.

    Attributes:
        host: int64 (words,): what the host writes.
        there: int64 (words,): the same on the device, at one address for ever.
        captured: a CUDA graph has taken up a copy, so table and binding must live as long as it.
    """

    def __init__(self, words: int, device: torch.device) -> None:
        self.host = np.zeros(words, dtype=np.int64)
        self.there = torch.zeros(words, dtype=torch.int64, device=device)
        self.captured = False
        self._sent: np.ndarray[Any, Any] | None = None
        self._in_graphs: list[Tensor] = []
        self._spare: Tensor | None = self._pinned()

    def send(self) -> bool:
        """Start a copy to the device if anything has changed, without waiting; True if there was one."""
        for_graph = capturing(self.there.device)
        # A graph brings its own table at every replay, because steps outside it may send another one; and
        # as nobody tells of replays, steps outside it then send theirs each time.
        same = self._sent is not None and np.array_equal(self.host, self._sent)
        if same and not for_graph and not self.captured:
            return False
        if self._spare is None and not for_graph:
            self._spare = self._pinned()
        self._sent = self.host.copy()
        staging = self._for_graph() if for_graph else self._pinned()
        staging.numpy()[:] = self.host
        self.there.copy_(staging, non_blocking=True)
        return True

    def _pinned(self) -> Tensor:
        """Memory that a copy can start from without waiting; torch gives none that is still being read."""
        return torch.empty(len(self.host), dtype=torch.int64, pin_memory=self.there.device.type == "cuda")

    def _for_graph(self) -> Tensor:
        """Memory that a graph will copy from at every replay, so it is never written again.

        Pinned memory should not be asked for during a capture, so some is put aside in steps between them.
        """
        self.captured = True
        kept, self._spare = self._pinned() if self._spare is None else self._spare, None
        self._in_graphs.append(kept)
        return kept


class GpuBinding(CpuBinding):
    """What a CpuBinding is, with the tables on the device and launches in place of calls.

    Args:
        program, kernel: what to run.
        members: the tensors, all on one device and of one dtype per slot.
        grad_dtype: dtype of the gradients.

    Attributes:
        skip: a tensor with one element; where it is not zero the step does nothing. None for no such flag.
    """

    on_device = True

    def __init__(
        self, program: Program, kernel: GpuKernel, members: Sequence[Member], grad_dtype: torch.dtype
    ) -> None:
        self.device = members[0].param.device
        self.skip: Tensor | None = None
        self.aligned = False
        super().__init__(program, kernel, members, grad_dtype)

    def _tables(self) -> None:
        program, count = self.program, len(self.members)
        # Addresses of tensors, addresses of cells, the group's numbers; each from an even word on, because
        # Triton compiles anew for a pointer that is not a multiple of 16.
        columns = len(program.slots) + len(program.coded)
        slots, cells = count * columns, count * len(self.cell_keys)
        cells_at = slots + slots % 2
        hypers_at = cells_at + cells + cells % 2
        self.table = SentTable(hypers_at + max(1, len(program.hypers)), self.device)
        self.slots = self.table.host[:slots].reshape(count, columns)
        self.cells = self.table.host[cells_at : cells_at + cells].reshape(count, len(self.cell_keys))
        self.hypers = self.table.host[hypers_at:].view(np.float64)
        there = self.table.there
        self.hypers_there = there[hypers_at:].view(torch.float64)
        counters = self._fixed(np.array([m.counter.data_ptr() for m in self.members], dtype=np.int64))
        shapes = [matrices(p) if program.by_rows else (0, 0, 0) for p in self.params]
        lengths = [(m.numel, *shape[1:]) for m, shape in zip(self.members, shapes, strict=True)]
        wide = torch.float64 if program.compute == "f64" else torch.float32
        scalars = self._zeros(count, max(1, program.scalars_per_tensor), wide)
        self.sums = self._zeros(count, max(1, len(program.sums)), torch.float64)
        # One key of random bits for each tensor.
        self.draws = self._zeros(count, 1, torch.int64)
        self.go = self._zeros(1, 1, torch.float32)
        # The first arguments of the kernels; the flag is their last.
        measured = self._fixed(np.array(lengths, dtype=np.int64))
        self.for_numbers = (scalars, self.hypers_there, counters, there[cells_at:], self.sums, measured)
        tables = Tables(there, scalars, self.sums, self.draws)
        sizes = [real(p).numel() for p in self.params]
        self.work: Work = (
            Tiles(self.kernel, shapes, tables, self.slots)
            if program.by_rows
            else Blocks(self.kernel, sizes, tables)
        )

    def _fixed(self, values: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _zeros(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros((rows, columns), dtype=dtype, device=self.device)

    def run(self, numbers: list[Any], threads: int) -> None:
        """Launch all passes on the bound addresses."""
        for number in range(len(self.program.passes)):
            self.run_pass(number, numbers, threads)
        self.finish()

    @torch.no_grad()
    def run_pass(self, number: int, numbers: list[Any], threads: int) -> None:
        """Launch one pass; the caller looks after sums over the whole model, and calls :meth:`finish`."""
        with torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext():
            if number == 0:
                self._send(numbers)
            flag = self.go if self.skip is None else self.skip
            flag = flag.detach().to(self.device, torch.float32, non_blocking=True)
            self.kernel.numbers(number, len(self.members), (*self.for_numbers, flag))
            if self.program.passes[number].draws:
                # By the device's own generator, which in a CUDA graph goes on from replay to replay.
                self.draws.random_(0, 2**63 - 1)
            self.work.run(number, flag, self.aligned)

    def _send(self, numbers: list[Any]) -> None:
        """Bring addresses and numbers to the device; a tensor that is there already is read there."""
        here = [isinstance(x, Tensor) and x.device == self.device for x in numbers]
        self.hypers[: len(numbers)] = [0.0 if h else float(x) for x, h in zip(numbers, here, strict=True)]
        if self.table.send():
            self.aligned = not (self.slots % 16).any()
        for place, (number, on_device) in enumerate(zip(numbers, here, strict=True)):
            if on_device:
                self.hypers_there[place : place + 1].copy_(number.detach().reshape(1))

    def sums_here(self) -> Any:
        """Sums of the passes so far on the host, which waits for them."""
        return self.sums.cpu().numpy()

    def take_sums(self, sums: Any) -> None:
        """Go on with these."""
        self.sums.copy_(torch.from_numpy(sums))

    def total(self, index: int) -> Any:
        """A sum over all tensors, on the device."""
        return self.sums[:, index].sum()

    def give(self, index: int, total: Any) -> None:
        """Take a sum over all tensors of all bindings for the sum over each tensor."""
        self.sums[:, index] = total.to(self.device, non_blocking=True) if isinstance(total, Tensor) else total
