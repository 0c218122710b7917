"""Stages on several matrices side by side: each thread takes some of them and multiplies on its own.

Inside one product threads meet again and again, and a decomposition hardly gains by them; matrices have
nothing to do with each other. So where there are enough of them, torch's operations run on one thread each.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

from kudari.compile.stage import Stage, Work

# Multiplications that are worth a second thread; about a millisecond of them.
WORTH = 1 << 24
# How much longer than an even share the fullest thread may take; beyond it, torch's own threads do better.
UNEVEN = 1.3


def run_side_by_side(stage: Stage, works: Sequence[Work], params: Sequence[Tensor]) -> list[tuple[Any, ...]]:
    """Run a stage for several tensors, on as many threads as torch would use.

    Args:
        stage: what to run; it works on each tensor on its own.
        works: for each tensor.
        params: the parameters.

    Returns:
        As the stage: new values for each tensor.
    """
    threads = min(torch.get_num_threads(), len(works))
    costs = [cost(p.shape) for p in params]
    if threads < 2 or sum(costs) < WORTH or any(p.device.type != "cpu" for p in params):
        return stage.run(works)
    given = owners(costs, threads)
    shares = [[i for i, owner in enumerate(given) if owner == k] for k in range(threads)]
    if max(sum(costs[i] for i in share) for share in shares) > UNEVEN * sum(costs) / threads:
        return stage.run(works)
    inference = torch.is_inference_mode_enabled()

    def run(share: list[int]) -> list[tuple[Any, ...]]:
        with torch.inference_mode(inference), torch.no_grad():
            return stage.run([works[i] for i in share])

    pool, found = _pool(os.getpid(), threads), dict[int, tuple[Any, ...]]()
    running = [pool.submit(run, share) for share in shares]
    try:
        for share, one in zip(shares, running, strict=True):
            found.update(zip(share, one.result(), strict=True))
    finally:
        wait(running)  # after an error, too: they write to factors
    return [found[i] for i in range(len(works))]


def cost(shape: torch.Size) -> float:
    """Proportional to the multiplications with the smaller side, which all stages are made of."""
    rows = shape[0] if shape else 1
    size = float(shape.numel())
    return size * min(rows, size / max(1, rows))


def owners(costs: Sequence[float], count: int) -> list[int]:
    """Give each piece of work to one of so many, the largest first, each to who has least.

    Example:
        >>> owners([1, 5, 3, 3], 2)
        [0, 0, 1, 1]
    """
    load = [0.0] * count
    found = [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        found[i] = min(range(count), key=lambda r: (load[r], r))
        load[found[i]] += costs[i]
    return found


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads of this process, on each of which torch's operations keep to that thread."""
    return ThreadPoolExecutor(
        threads, "kudari-stage", initializer=_alone, initargs=(torch.get_num_threads(),)
    )


def _alone(outside: int) -> None:
    """Let operations on this thread use it alone.

    torch keeps the number for each thread, and for threads to come the last one that was set anywhere; so the
    one outside is set again, on a thread that ends with it.
    """
    torch.get_num_threads()  # the first question on a thread sets its number to the one outside
    torch.set_num_threads(1)
    with ThreadPoolExecutor(1) as another:
        another.submit(torch.set_num_threads, outside).result()
