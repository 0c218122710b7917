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
# Below this many elements a thread more costs longer than it saves; see docs/log.md.
PER_THREAD = 32768


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

    def threads(self, allowed: int) -> int:
        """How many threads are worth starting, at most ``allowed``."""
        return max(1, min(allowed, self.elements // PER_THREAD, len(self.task_ends)))


def make_plan(sizes: Sequence[int]) -> Plan:
    """Cut tensors of the given numbers of elements; empty ones get no chunk.

    Example:
        >>> plan = make_plan([10, 0, 40000])
        >>> plan.chunks.tolist()
        [[0, 0, 10], [2, 0, 32768], [2, 32768, 40000]]
        >>> plan.task_ends.tolist(), plan.threads(8)
        ([2, 3], 1)
    """
    rows = [
        (tensor, start, min(start + CHUNK, size))
        for tensor, size in enumerate(sizes)
        for start in range(0, size, CHUNK)
    ]
    ends: list[int] = []
    gathered = 0
    for index, (_, start, stop) in enumerate(rows):
        gathered += stop - start
        if gathered >= TASK or index == len(rows) - 1:
            ends.append(index + 1)
            gathered = 0
    return Plan(
        np.array(rows, dtype=np.int64).reshape(-1, 3), np.array(ends, dtype=np.int64), int(sum(sizes))
    )
