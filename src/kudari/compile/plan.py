"""Plans: how the elements of many tensors are cut into chunks, and chunks gathered into tasks.

All tensors of a group form one index space. A chunk lies in one tensor; a task is a run of chunks with enough
work to be worth taking. Chunk borders depend on the tensor alone, never on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

# Elements. A chunk of a float32 AdamW step touches 16 bytes an element, 512 KiB: a second-level cache.
CHUNK = 32768
TASK = 16384
# Bytes to move that are worth a thread, those of a quarter of a million elements of AdamW. Twice as many take
# a quarter of a millisecond on one; where another process has the second core, waiting for a second thread
# took 10 to 40 ms.
PER_THREAD = 7 << 20


@dataclass(frozen=True)
class Plan:
    """The cutting of a list of tensors.

    Attributes:
        chunks: int64 (n, 3): tensor, first element, end.
        task_ends: int64 (tasks,): end of each task's run of chunks.
        elements: of all tensors together.
    """

    chunks: Int64s
    task_ends: Int64s
    elements: int

    def threads(self, allowed: int, work: float) -> int:
        """How many threads are worth starting.

        Args:
            allowed: at most so many.
            work: bytes to move for each element, or what takes as long; see ``Program.work``.
        """
        return max(1, min(allowed, int(self.elements * work) // PER_THREAD, len(self.task_ends)))


def make_plan(sizes: Sequence[int]) -> Plan:
    """Cut tensors of the given numbers of elements; empty ones get no chunk.

    Example:
        >>> plan = make_plan([10, 0, 40000])
        >>> plan.chunks.tolist()
        [[0, 0, 10], [2, 0, 32768], [2, 32768, 40000]]
        >>> plan.task_ends.tolist(), plan.threads(8, work=28)
        ([2, 3], 1)
    """
    rows = [
        (tensor, start, min(start + CHUNK, size))
        for tensor, size in enumerate(sizes)
        for start in range(0, size, CHUNK)
    ]
    ends = _task_ends([stop - start for _, start, stop in rows])
    return Plan(np.array(rows, dtype=np.int64).reshape(-1, 3), ends, int(sum(sizes)))


# A matrix is cut into at most so many runs of rows, so that the column sums of the runs stay small.
PIECES = 64


@dataclass(frozen=True)
class RowPlan(Plan):
    """The cutting of a list of tensors into runs of rows; chunks are rows instead of elements.

    Attributes:
        dims: int64 (tensors, 3): matrices, rows and columns.
        column_at: int64 (chunks,): where a chunk's column sums go, from the tensor's first one.
        folds: int64 (n, 5), one row for each matrix that is cut: tensor, where its column sums are, where
            those of its first run are, number of runs, columns.
        places: how many column sums each tensor has room for, those of the runs included.
    """

    dims: Int64s
    column_at: Int64s
    folds: Int64s
    places: tuple[int, ...]


def make_row_plan(shapes: Sequence[tuple[int, int, int]]) -> RowPlan:
    """Cut tensors, given as (matrices, rows, columns), into runs of whole rows.

    Small matrices are taken several at a time, large ones cut.

    Example:
        >>> plan = make_row_plan([(3, 2, 5), (1, 1000, 64)])
        >>> plan.chunks.tolist()
        [[0, 0, 6], [1, 0, 512], [1, 512, 1000]]
        >>> plan.column_at.tolist(), plan.folds.tolist(), plan.places
        ([0, 64, 128], [[1, 0, 64, 2, 64]], (15, 192))
    """
    rows: list[tuple[int, int, int]] = []
    column_at: list[int] = []
    folds: list[tuple[int, ...]] = []
    places: list[int] = []
    for tensor, (matrices, height, width) in enumerate(shapes):
        places.append(matrices * width)
        if matrices * height * width == 0:
            continue
        step = max(-(-CHUNK // width), -(-height // PIECES))
        if step >= height:
            together = step // height * height
            for start in range(0, matrices * height, together):
                rows.append((tensor, start, min(start + together, matrices * height)))
                column_at.append(start // height * width)
            continue
        pieces = -(-height // step)
        for matrix in range(matrices):
            folds.append((tensor, matrix * width, places[-1], pieces, width))
            for start in range(0, height, step):
                top = matrix * height
                rows.append((tensor, top + start, top + min(start + step, height)))
                column_at.append(places[-1])
                places[-1] += width
    sizes = [(end - start) * shapes[tensor][2] for tensor, start, end in rows]
    return RowPlan(
        np.array(rows, dtype=np.int64).reshape(-1, 3),
        _task_ends(sizes),
        int(sum(sizes)),
        np.array(shapes, dtype=np.int64).reshape(-1, 3),
        np.array(column_at, dtype=np.int64),
        np.array(folds, dtype=np.int64).reshape(-1, 5),
        tuple(places),
    )


def _task_ends(sizes: Sequence[int]) -> Int64s:
    """Ends of the runs of chunks that are enough work for a task."""
    ends: list[int] = []
    gathered = 0
    for index, size in enumerate(sizes):
        gathered += size
        if gathered >= TASK or index == len(sizes) - 1:
            ends.append(index + 1)
            gathered = 0
    return np.array(ends, dtype=np.int64)
