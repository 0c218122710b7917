"""The pass plan: which sums and stores happen in which reading of memory, chosen by counting bytes.

A sum can be used only after a whole pass. A new value that needs no sum may be stored in an early pass, and
later passes then read it instead of computing it again from what it overwrote; or it may be stored late, and
later passes compute it again. Both are tried, for every slot, and the plan that moves the fewest bytes wins.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kudari.compile.expression import SUMS, Expr, hyper, slot, substitute, walk
from kudari.compile.program import sum_name

Outputs = tuple[tuple[str, Expr], ...]
Scope = Literal["tensor", "model"]


@dataclass(frozen=True)
class RawPass:
    """A pass before numbers are hoisted; see :class:`kudari.compile.program.Pass`."""

    outputs: Outputs
    sums: tuple[tuple[Expr, Scope], ...]
    first_sum: int

    def reads(self) -> set[str]:
        """Names of the slots read."""
        roots = [*(e for _, e in self.outputs), *(e for e, _ in self.sums)]
        return {e.name for e in walk(roots) if e.op == "slot"}


def _levels(roots: list[Expr]) -> dict[Expr, int]:
    """For each node, the first pass in which it can be computed."""
    level: dict[Expr, int] = {}
    for item in walk(roots):
        below = max((level[a] for a in item.args), default=0)
        level[item] = below + (item.op in SUMS)
    return level


def _latest(sums: list[Expr], last: int) -> dict[Expr, int]:
    """For each sum, the last pass that can compute it if every result is stored at the very end."""
    latest = dict.fromkeys(sums, last - 1)
    for outer in reversed(sums):
        for inner in walk(outer.args):
            if inner in latest:
                latest[inner] = min(latest[inner], latest[outer] - 1)
    return latest


def split(outputs: Outputs, sizes: Mapping[str, float]) -> tuple[RawPass, ...]:
    """Cut an update into passes.

    Args:
        outputs: new value of each slot, sums included.
        sizes: bytes an element of each slot.
    """
    roots = [e for _, e in outputs]
    level = _levels(roots)
    sums = sorted((e for e in walk(roots) if e.op in SUMS), key=lambda e: level[e])
    last = max(level[e] for e in roots)
    if not sums:
        return (RawPass(outputs, (), 0),)
    early = {e: level[e] - 1 for e in sums}
    # A constant, as where a gradient is cleared, is nothing to be read back: it is stored at the end.
    choices = [range(last, last - 1 if e.op == "const" else level[e] - 1, -1) for _, e in outputs]
    plans = [
        _plan(outputs, summed, last, stored)
        for summed in (_latest(sums, last), early)
        for stored in itertools.product(*choices)
    ]
    possible = [plan for plan in plans if plan is not None]
    return min(possible, key=lambda plan: _bytes(plan, sizes))


def _plan(
    outputs: Outputs, summed: Mapping[Expr, int], last: int, stored: tuple[int, ...]
) -> tuple[RawPass, ...] | None:
    """The passes when sums and stores happen where they are put.

    Args:
        summed: the pass that computes each sum.
        stored: the pass that stores each output.

    Returns:
        None if a pass needs a sum that is not there yet, or a value that has been overwritten.
    """
    order = sorted(summed, key=lambda e: summed[e])
    values = {e: hyper(sum_name(i)) for i, e in enumerate(order)}
    passes = []
    for number in range(last + 1):
        before = [(n, e) for (n, e), at in zip(outputs, stored, strict=True) if at < number]
        here = [(n, e) for (n, e), at in zip(outputs, stored, strict=True) if at == number]
        added = [e for e in order if summed[e] == number]
        table = values | {e: slot(f"{n} new") for n, e in before}
        roots = substitute([*(e for _, e in here), *(e.args[0] for e in added)], table)
        overwritten = {n for n, _ in before}
        late = {values[e] for e in order if summed[e] >= number}
        if any(e in late or (e.op == "slot" and e.name in overwritten) for e in walk(roots)):
            return None
        roots = substitute(roots, {slot(f"{n} new"): slot(n) for n in overwritten})
        scopes: list[Scope] = ["model" if e.op == "sum_model" else "tensor" for e in added]
        passes.append(
            RawPass(
                tuple((n, e) for (n, _), e in zip(here, roots, strict=False)),
                tuple(zip(roots[len(here) :], scopes, strict=True)),
                order.index(added[0]) if added else len(order),
            )
        )
    return tuple(passes)


def _bytes(plan: tuple[RawPass, ...], sizes: Mapping[str, float]) -> float:
    reads = sum(sizes[name] for part in plan for name in part.reads())
    return reads + sum(sizes[name] for part in plan for name, _ in part.outputs)
