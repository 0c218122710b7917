"""Stages on sharded tensors: matrices are gathered, each is worked on by one rank, and results sent around.

A stage such as Newton-Schulz needs all of a matrix. Every tensor is given to one of the ranks that hold parts
of it, so that all have about equally much to compute. Factors are whole on every rank: checkpoints are plain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kudari.compile.stage import Stage, Work
from kudari.optim.sharding import Ranks, cut_like, cut_over, is_sharded, local, placed_like, whole
from kudari.optim.side_by_side import cost, owners, run_side_by_side


def run_shared(stage: Stage, works: Sequence[Work], params: Sequence[Tensor]) -> list[tuple[Any, ...]]:
    """Run a stage for several tensors, some of them sharded.

    Args:
        stage: what to run.
        works: for each tensor; of a sharded one, values shaped like the parameter are this rank's parts.
        params: the parameters, sharded or not.

    Returns:
        As the stage: new values, of sharded parameters this rank's parts.
    """
    if not any(map(is_sharded, params)):
        return run_side_by_side(stage, works, params)
    gathered = [_gather(work, p) for work, p in zip(works, params, strict=True)]
    results: dict[int, tuple[Any, ...]] = {}
    alone = [i for i, p in enumerate(params) if not cut_over(p)]
    results.update(zip(alone, stage.run([gathered[i] for i in alone]), strict=True))
    shared: dict[Ranks, list[int]] = {}
    for i, p in enumerate(params):
        for ranks in cut_over(p)[:1]:  # along other dimensions of the mesh, all do the same
            shared.setdefault(ranks, []).append(i)
    for ranks, rows in shared.items():
        results.update(
            _split(stage, {i: gathered[i] for i in rows}, [cost(params[i].shape) for i in rows], ranks)
        )
    return [_cut(results[i], p) for i, p in enumerate(params)]


def _split(
    stage: Stage, works: dict[int, Work], costs: Sequence[float], ranks: Ranks
) -> dict[int, tuple[Any, ...]]:
    """Run each work on one rank, and send the results to all: one broadcast from each rank."""
    import torch.distributed as dist

    count, me = dist.get_world_size(ranks.group), dist.get_rank(ranks.group)
    rows = list(works)
    given = dict(zip(rows, owners(costs, count), strict=True))
    mine = [i for i in rows if given[i] == me]
    # A stage may write to factors, and results may be arguments: the others get memory of their own.
    results = dict(zip(mine, stage.run([works[i] for i in mine]), strict=True))
    for owner in range(count):
        theirs = [i for i in rows if given[i] == owner]
        if me != owner:
            results |= {i: _blank(works[i].values[: stage.changes]) for i in theirs}
        tensors = [x for i in theirs for x in _tensors(results[i])]
        if not tensors:
            continue
        sent = torch.cat([x.flatten() for x in tensors])
        dist.broadcast(sent, src=dist.get_global_rank(ranks.group, owner), group=ranks.group)
        if me != owner:
            at = 0
            for x in tensors:
                x.copy_(sent[at : at + x.numel()].view_as(x))
                at += x.numel()
    return results


def _gather(work: Work, p: Tensor) -> Work:
    """The same work on whole tensors."""
    if not is_sharded(p):
        return work
    values = tuple(whole(placed_like(v, p)) if isinstance(v, Tensor) else v for v in work.values)
    values = tuple(v.contiguous() if isinstance(v, Tensor) else v for v in values)
    return Work(values, work.numbers, work.variant)


def _cut(result: tuple[Any, ...], p: Tensor) -> tuple[Any, ...]:
    """This rank's parts of results shaped like the parameter; factors as they are."""
    if not is_sharded(p):
        return result
    return tuple(local(cut_like(x, p)) if isinstance(x, Tensor) else x for x in result)


def _blank(values: Sequence[Any]) -> tuple[Any, ...]:
    """Room for results: those of a stage are shaped like its first arguments."""
    return tuple(
        torch.empty_like(v)
        if isinstance(v, Tensor)
        else [None if f is None else torch.empty_like(f) for f in v]
        for v in values
    )


def _tensors(result: Sequence[Any]) -> list[Tensor]:
    """All tensors of a result, factors included."""
    found: list[Tensor] = []
    for value in result:
        found += [value] if isinstance(value, Tensor) else [f for f in value if f is not None]
    return found
