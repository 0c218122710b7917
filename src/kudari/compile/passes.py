"""The pass plan: which sums and stores happen in which reading of memory, chosen by counting bytes.

A sum over elements can be used only after a whole pass. A new value that needs no sum may be stored in an
early pass, and later passes then read it instead of computing it again from what it overwrote; or it may be
stored late, and later passes compute it again. Both are tried, for every slot, and the plan that moves the
fewest bytes wins. What has one value for each row or column is small: it is computed between passes and not
counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kudari.compile.expression import SUMS, Expr, frontier, hyper, slot, substitute, walk
from kudari.compile.program import SCOPES, Scope, sum_name
from kudari.errors import RuleError

Outputs = tuple[tuple[str, Expr], ...]


@dataclass(frozen=True)
class Update:
    """A traced rule's new values.

    Attributes:
        elements: of tensors with one value for each element.
        vectors: of states with one value for each row or column.
        numbers: of numbers that the group keeps; they may use every sum.
    """

    elements: Outputs
    vectors: Outputs = ()
    numbers: Outputs = ()

    @property
    def roots(self) -> list[Expr]:
        """Everything that is computed."""
        return [e for _, e in (*self.elements, *self.vectors, *self.numbers)]


@dataclass(frozen=True)
class RawPass:
    """A pass before numbers are hoisted; see :class:`kudari.compile.program.Pass`.

    Attributes:
        known: what stands for expressions that outputs and sums are made of: sums, and what has been stored.
    """

    outputs: Outputs
    sums: tuple[tuple[Expr, Scope], ...]
    first_sum: int
    vectors: Outputs = ()
    every: int = 1
    known: Mapping[Expr, Expr] = field(default_factory=dict)

    def reads(self) -> set[str]:
        """Names of the slots read element by element."""
        leaves = _leaves([*(e for _, e in self.outputs), *(e for e, _ in self.sums)], self.known)
        return {e.name for e in leaves if e.op == "slot" and e.kind == "tensor"}

    def settled(self) -> RawPass:
        """The same with what is known in its place. Plans are compared before, as this takes a while."""
        found = substitute([*(e for _, e in self.outputs), *(e for e, _ in self.sums)], dict(self.known))
        outputs = tuple((n, e) for (n, _), e in zip(self.outputs, found, strict=False))
        sums = zip(found[len(outputs) :], (scope for _, scope in self.sums), strict=True)
        return replace(self, outputs=outputs, sums=tuple(sums), known={})


def over_elements(item: Expr) -> bool:
    """Whether a node is a sum that takes a pass over memory."""
    return item.op in SUMS and item.args[0].kind == "tensor"


def _levels(roots: list[Expr]) -> dict[Expr, int]:
    """For each node, the first pass in which it can be computed."""
    level: dict[Expr, int] = {}
    for item in walk(roots):
        below = max([level[a] for a in item.args], default=0)
        level[item] = below + over_elements(item)
    return level


def _latest(sums: list[Expr], last: int, bound: Mapping[Expr, int]) -> dict[Expr, int]:
    """For each sum, the last pass that can compute it if every result is stored at the very end.

    Args:
        sums: arguments before the sums that use them.
        last: the last pass.
        bound: the last pass for sums that something between passes waits for.
    """
    latest = {e: min(last - 1, bound.get(e, last - 1)) for e in sums}
    for outer in reversed(sums):
        for inner in walk(outer.args):
            if inner in latest:
                latest[inner] = min(latest[inner], latest[outer] - 1)
    return latest


def split(
    update: Update, sizes: Mapping[str, float], every: Mapping[str, int]
) -> tuple[tuple[RawPass, ...], Outputs]:
    """Cut an update into passes.

    Args:
        update: the new values, sums included.
        sizes: bytes an element of each slot.
        every: for slots that have only every k-th element, k.

    Returns:
        The passes; and the new values of the group's numbers in terms of the sums.

    Raises:
        RuleError: a value would have to be read after it has been overwritten.
    """
    roots = update.roots
    level = _levels(roots)
    sums = sorted((e for e in walk(roots) if over_elements(e)), key=lambda e: level[e])
    ends = [level[e] for _, e in (*update.elements, *update.vectors)]
    last = max([*ends, *(level[e] - 1 for _, e in update.numbers)])
    early = {e: level[e] - 1 for e in sums}
    # What is stored between passes needs its sums as soon as they can be had.
    bound = {e: early[e] for _, v in update.vectors for e in walk([v]) if e in early}
    # A constant, as where a gradient is cleared, is nothing to be read back: it is stored at the end.
    firsts = [last if e.op == "const" else level[e] for _, e in update.elements]
    choices = [range(last, first - 1, -1) for first in firsts]
    late = {e: max(early[e], at) for e, at in _latest(sums, last, bound).items()}
    timings = [early] if late == early else [early, late]
    plans: list[tuple[tuple[RawPass, ...], dict[Expr, Expr]]] = []
    for summed in timings:
        order = sorted(summed, key=lambda e: (summed[e], not _thinned([e], every, {})))
        values = {e: _value(i, e) for i, e in enumerate(order)}
        for stored in itertools.product(*choices):
            plan = _plan(update, summed, values, (level, stored, last))
            if plan is not None:
                plans.append((tuple(part for whole in plan for part in _apart(whole, every)), values))
    if not plans:
        raise RuleError(
            "The update reads the old value of a row or column state after its new value is stored.",
            fix="Use the new value there, or the old one only where no sum comes before it.",
        )
    best, values = min(plans, key=lambda found: _bytes(found[0], sizes))
    numbers = substitute([e for _, e in update.numbers], values)
    named = zip((n for n, _ in update.numbers), numbers, strict=True)
    return tuple(part.settled() for part in best), tuple(named)


def _value(index: int, sum_: Expr) -> Expr:
    """What stands for a sum once it is known."""
    return hyper(sum_name(index)) if sum_.kind == "scalar" else slot(sum_name(index), sum_.kind)


def _leaves(roots: Iterable[Expr], known: Mapping[Expr, Expr]) -> list[Expr]:
    """What expressions read, with what is known in its place."""
    return [known.get(e, e) for e in frontier(roots, known)]


def _thinned(roots: Iterable[Expr], every: Mapping[str, int], known: Mapping[Expr, Expr]) -> int:
    """The k of expressions over every k-th element; 0 of those over all."""
    if not every:
        return 0
    return max((every.get(e.name, 0) for e in _leaves(roots, known) if e.op == "slot"), default=0)


def _plan(
    update: Update,
    summed: Mapping[Expr, int],
    values: Mapping[Expr, Expr],
    when: tuple[Mapping[Expr, int], tuple[int, ...], int],
) -> tuple[RawPass, ...] | None:
    """The passes when sums and stores happen where they are put.

    Args:
        update: the new values.
        summed: the pass that computes each sum.
        values: what stands for each sum.
        when: the first pass that can compute each expression; the pass that stores each output; the last one.

    Returns:
        None if a pass needs a sum that is not there yet, or a value that has been overwritten.
    """
    level, stored, last = when
    passes = []
    timed = [(n, e, at) for (n, e), at in zip(update.elements, stored, strict=True)]
    for number in range(last + 1):
        late = {values[e] for e in values if summed[e] >= number}
        before = [(slot(n), e) for n, e, at in timed if at < number]
        vectors: list[tuple[str, Expr]] = []
        for n, e in update.vectors:
            if level[e] == number:
                known = _known([e], values, before, late)
                if known is None:
                    return None
                vectors.append((n, substitute([e], known)[0]))
            if level[e] <= number:
                before.append((slot(n, e.kind), e))
        here = [(n, e) for n, e, at in timed if at == number]
        added = [e for e in values if summed[e] == number]
        known = _known([*(e for _, e in here), *(e.args[0] for e in added)], values, before, late)
        if known is None:
            return None
        passes.append(
            RawPass(
                tuple(here),
                tuple((e.args[0], SCOPES[e.op]) for e in added),
                list(values).index(added[0]) if added else len(values),
                tuple(vectors),
                known=known,
            )
        )
    return tuple(passes)


def _known(
    roots: list[Expr],
    values: Mapping[Expr, Expr],
    before: list[tuple[Expr, Expr]],
    late: set[Expr],
) -> dict[Expr, Expr] | None:
    """What stands for sums and for what has been stored; None if expressions need something that is gone.

    Args:
        roots: the expressions.
        values: what stands for each sum.
        before: slot and expression of each value that has been stored.
        late: what stands for sums that are not known yet.
    """
    table = {**values, **{e: place for place, e in before}}
    overwritten = {place.name for place, _ in before}
    for item in frontier(roots, table):
        gone = item.op == "slot" and item.name in overwritten
        if table[item] in late if item in table else gone:
            return None
    return table


def _apart(whole: RawPass, every: Mapping[str, int]) -> list[RawPass]:
    """A pass over every k-th element, then one over all; or the only one of them that has work."""
    thin = [(n, e) for n, e in whole.outputs if n in every]
    thin_sums = [(e, scope) for e, scope in whole.sums if _thinned([e], every, whole.known)]
    if not thin and not thin_sums:
        return [whole]
    roots = [*(e for _, e in thin), *(e for e, _ in thin_sums), *(slot(n) for n, _ in thin)]
    k = _thinned(roots, every, whole.known)
    rest = tuple(x for x in whole.outputs if x not in thin)
    rest_sums = tuple(x for x in whole.sums if x not in thin_sums)
    first = replace(whole, outputs=tuple(thin), sums=tuple(thin_sums), every=k)
    second = RawPass(rest, rest_sums, whole.first_sum + len(thin_sums), known=whole.known)
    return [first, second] if rest or rest_sums else [first]


def _bytes(plan: tuple[RawPass, ...], sizes: Mapping[str, float]) -> float:
    reads = sum(sizes[name] for part in plan for name in part.reads())
    return reads + sum(sizes[name] for part in plan for name, _ in part.outputs)
