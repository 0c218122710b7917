"""Cutting a rule at its stages: elementwise parts, each with passes of its own, and calls between them.

What a stage reads must lie in memory when it is called, and what it makes can be used only afterwards. So
each value that a stage reads, and each new value of a state, is stored by one of the parts; which one is
chosen by counting bytes. A value that belongs to no state gets a slot of its own for the time of the step.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kudari.compile.declarations import State
from kudari.compile.expression import SUMS, Expr, frontier, hyper, slot, substitute, walk
from kudari.compile.stage import Stage, find
from kudari.compile.trace import Trace
from kudari.errors import RuleError

TEMPORARY = "temporary "


@dataclass(frozen=True)
class Call:
    """A stage between two parts.

    Attributes:
        name: the stage's, with its variant behind a colon.
        inputs: names of the slots and lists of factors it reads, in the order of its arguments.
        outputs: where its new values go: slots or lists, empty for one that nobody needs.
        numbers: its other arguments.
        when: a number; where it is 0 the inputs are the outputs.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: tuple[Expr, ...]
    when: Expr

    def __str__(self) -> str:
        outputs = " ".join(name for name in self.outputs if name)
        return f"{self.name.partition(':')[0]} {' '.join(self.inputs)} -> {outputs}"


Piece = Trace | Call
_Key = tuple[str, tuple[Expr, ...]]
_Name = TypeVar("_Name", str, State)


@dataclass(frozen=True)
class _Node:
    """One call of a stage, before slots are given to it.

    Attributes:
        stage, name: what is called.
        values, numbers, when: its arguments.
        results: its values that the rule uses, by index.
    """

    stage: Stage
    name: str
    values: tuple[Expr, ...]
    numbers: tuple[Expr, ...]
    when: Expr
    results: Mapping[int, Expr]

    def overwrites(self) -> set[Expr]:
        """The lists of factors that are changed where they are."""
        return {v for v in self.values[: self.stage.changes] if v.op == "slot" and v.kind == "factors"}


@functools.lru_cache(maxsize=256)
def cut(trace: Trace) -> tuple[Piece, ...]:
    """Cut a rule into parts and calls of stages, in the order they run.

    Returns:
        The trace itself if it calls no stage. A first part without outputs computes, as the group's numbers
        called :func:`model_sum_name`, sums over the whole model that the others use.

    Raises:
        RuleError: the rule needs a value after it has been overwritten, or the stages wait for each other.
    """
    roots = [*(e for _, e in trace.outputs), *(e for _, e in trace.factors)]
    nodes = _nodes(roots)
    if not nodes:
        return (trace,)
    _check(trace, nodes.values())
    sums = [e for e in walk(roots) if e.op == "sum_model"]
    if sums:
        first, trace = _without(trace, sums)
        return (first, *cut(trace))
    level = _levels(trace, roots, nodes)
    homes = _homes(trace, nodes.values())
    last = max(level[e] for e in roots)
    stored = {e: name for e, name in homes.items() if e.op not in ("slot", "stage")}
    ranges = [range(_deadline(e, nodes.values(), level, last), level[e] - 1, -1) for e in stored]
    calls = [_called(nodes.values(), level, number) for number in range(last + 1)]
    layouts = (
        _Layout(trace, calls, homes, dict(zip(stored, at, strict=True))) for at in itertools.product(*ranges)
    )
    possible = [(layout, found) for layout in layouts if (found := layout.drafts()) is not None]
    if not possible:
        raise RuleError(
            f"{trace.name} needs the value of a tensor after a stage or a pass has overwritten it.",
            fix="Use the new value instead, or keep the old one in a state of its own.",
        )
    layout, found = min(possible, key=lambda pair: _traffic(pair[1]))
    return layout.settled(found)


def _nodes(roots: Iterable[Expr]) -> dict[_Key, _Node]:
    found: dict[_Key, dict[int, Expr]] = {}
    for item in walk(roots):
        if item.op == "stage":
            found.setdefault((item.name, item.args), {})[int(item.value)] = item
    made = {}
    for (name, args), results in found.items():
        stage = find(name)[0]
        count = len(stage.values)
        made[name, args] = _Node(stage, name, args[:count], args[count:-1], args[-1], results)
    return made


def _check(trace: Trace, nodes: Iterable[_Node]) -> None:
    for node in nodes:
        if any(e.op in SUMS for e in walk((*node.numbers, node.when))):
            raise RuleError(f"{trace.name} gives {node.name} a number that is a sum over elements.")
    for state, end in trace.factors:
        while end.op == "stage":
            end = end.args[int(end.value)]
        if end is not slot(state.name, "factors"):
            raise RuleError(f"{trace.name} gives {state.name} factors that were made from {end.name}.")


def model_sum_name(index: int) -> str:
    """Name of a sum over the model in the parts after the one that computes it."""
    return f"model sum {index}"


def _without(trace: Trace, sums: list[Expr]) -> tuple[Trace, Trace]:
    """A part that computes sums over the whole model, and a rule that is given them as numbers."""
    if any(e.op == "stage" for e in walk(sums)):
        raise RuleError(f"{trace.name} sums over the model what a stage has made.")
    names = {e: hyper(model_sum_name(i)) for i, e in enumerate(sums)}
    read = {e.name for e in walk(sums) if e.op == "slot"}
    states = tuple(s for s in trace.states if s.name in read)
    running = tuple((h.name, e) for e, h in names.items())
    first = replace(trace, states=states, outputs=(), running=running, factors=(), cells=_same(trace))
    count = ("t",) if "t" in trace.hypers else ()
    hypers = (*(n for n in trace.hypers if n != "t"), *(h.name for h in names.values()), *count)

    def given(pairs: tuple[tuple[_Name, Expr], ...]) -> tuple[tuple[_Name, Expr], ...]:
        new = substitute([e for _, e in pairs], dict(names))
        return tuple((name, e) for (name, _), e in zip(pairs, new, strict=True))

    rest = replace(
        trace,
        hypers=hypers,
        outputs=given(trace.outputs),
        names=given(trace.names),
        cells=given(trace.cells),
        factors=given(trace.factors),
    )
    return first, rest


def _same(trace: Trace) -> tuple[tuple[State, Expr], ...]:
    """Numbers kept for a tensor, without a new value."""
    return tuple((state, hyper(state.name)) for state, _ in trace.cells)


def _levels(trace: Trace, roots: Iterable[Expr], nodes: Mapping[_Key, _Node]) -> dict[Expr, int]:
    """For each node, the first part in which it can be computed; a stage runs before the part of its level.

    A stage that changes a list of factors waits for all that read the old one.
    """
    least = dict.fromkeys(nodes, 1)
    for _ in range(len(nodes) + 1):
        level: dict[Expr, int] = {}
        for item in walk(roots):
            level[item] = max([level[a] for a in item.args], default=0)
            if item.op == "stage":
                level[item] = max(level[item] + 1, least[item.name, item.args])
        wanted = dict(least)
        for key, node in nodes.items():
            for other in nodes.values():
                if other is not node and node.overwrites() & set(other.values):
                    wanted[key] = max(wanted[key], *(level[e] for e in other.results.values()))
        if wanted == least:
            return level
        least = wanted
    raise RuleError(f"{trace.name}: its stages wait for each other.")


def _homes(trace: Trace, nodes: Iterable[_Node]) -> dict[Expr, str]:
    """Where each value that must lie in memory goes: a state's slot, or one of its own."""
    nodes = list(nodes)
    homes: dict[Expr, str] = {slot(n): n for n in trace.slots}
    homes |= {slot(s.name, "factors"): s.name for s, _ in trace.factors}
    for name, new in [*trace.outputs, *((s.name, e) for s, e in trace.factors)]:
        homes.setdefault(new, name)
        while new.op == "stage":  # what it is made of can wait in the same place
            new = new.args[int(new.value)]
            homes.setdefault(new, name)
    known = {e: n for n, e in trace.names}
    taken = set(homes.values())
    for node in nodes:
        for value in (*node.values, *node.results.values()):
            if value not in homes:
                stem = known.get(value, "x")
                name = next(n for i in itertools.count() if (n := stem + "'" * i) not in taken)
                homes[value] = name
                taken.add(name)
    return homes


def _called(nodes: Iterable[_Node], level: Mapping[Expr, int], number: int) -> list[_Node]:
    """The calls before a part: first those that read a list, then the one that changes it."""
    here = [n for n in nodes if level[next(iter(n.results.values()))] == number]
    return sorted(here, key=lambda n: bool(n.overwrites()))


def _deadline(e: Expr, nodes: Iterable[_Node], level: Mapping[Expr, int], last: int) -> int:
    """The last part that may store a value: the one before the first stage that reads it."""
    readers = [level[r] - 1 for node in nodes if e in node.values for r in node.results.values()]
    return min(readers, default=last)


@dataclass(frozen=True)
class _Draft:
    """A part before the slots stand for what they hold. Layouts are compared so, as the rest takes a while.

    Attributes:
        outputs: new value of each slot that the part stores.
        held: name of the slot that holds each value when the part runs.
    """

    outputs: tuple[tuple[str, Expr], ...]
    held: Mapping[Expr, str]

    @functools.cached_property
    def leaves(self) -> set[Expr]:
        """What the part reads."""
        return frontier((e for _, e in self.outputs), self.held)

    def settled(self) -> tuple[tuple[str, Expr], ...]:
        """New values in terms of what the slots hold then."""
        slots = {e: slot(name, e.kind) for e, name in self.held.items()}
        roots = substitute((e for _, e in self.outputs), slots)
        return tuple((name, root) for (name, _), root in zip(self.outputs, roots, strict=True))


@dataclass(frozen=True)
class _Layout:
    """One choice of which part stores what.

    Attributes:
        trace: as in :func:`cut`.
        calls: for each part, the calls before it.
        homes: where each value goes that must lie in memory.
        stored: the part that stores each value.
    """

    trace: Trace
    calls: Sequence[Sequence[_Node]]
    homes: Mapping[Expr, str]
    stored: Mapping[Expr, int]

    def drafts(self) -> tuple[_Draft | _Node, ...] | None:
        """Parts and calls; None if one needs what is no longer there."""
        held = {name: e for e, name in self.homes.items() if e.op == "slot"}
        found: list[_Draft | _Node] = []
        for number, calls in enumerate(self.calls):
            for node in calls:
                if any(held.get(self.homes[v]) is not v for v in node.values):
                    return None
                found.append(node)
                held |= {self.homes[e]: e for e in node.results.values()}
            part = self._part(number, held, self._copies() if number + 1 == len(self.calls) else ())
            if part is None:
                return None
            if part.outputs:
                found.append(part)
                held |= {self.homes[e]: e for e, at in self.stored.items() if at == number}
        ends = {self.homes[e]: e for _, e in (*self.trace.outputs, *self.trace.factors)}
        if any(held[name] is not e for name, e in ends.items()):
            return None
        return tuple(found)

    def settled(self, drafts: Iterable[_Draft | _Node]) -> tuple[Piece, ...]:
        """The pieces of a rule from their drafts."""
        return self._with_cells(
            [self._call(x) if isinstance(x, _Node) else self._trace_of(x.settled()) for x in drafts]
        )

    def _copies(self) -> tuple[tuple[str, Expr], ...]:
        """New values of states that are another tensor as it is; the last part copies them."""
        return tuple((n, e) for n, e in self.trace.outputs if self.homes[e] != n)

    def _call(self, node: _Node) -> Call:
        outputs = tuple(
            self.homes[node.results[i]] if i in node.results else "" for i in range(node.stage.changes)
        )
        inputs = tuple(self.homes[v] for v in node.values)
        return Call(node.name, inputs, outputs, node.numbers, node.when)

    def _part(
        self, number: int, held: Mapping[str, Expr], copies: tuple[tuple[str, Expr], ...]
    ) -> _Draft | None:
        """What a part stores; None if it needs what no slot holds then."""
        here = [(self.homes[e], e) for e, at in self.stored.items() if at == number]
        names = {e: name for name, e in held.items() if e.kind != "scalar"}
        draft = _Draft((*here, *copies), names)
        missing = any(e.op in ("stage", "slot") and e not in names for e in draft.leaves)
        return None if missing else draft

    def _trace_of(self, outputs: tuple[tuple[str, Expr], ...]) -> Trace:
        """A part as a rule of its own, with the slots that it reads or writes."""
        own = {s.name: s for s in self.trace.states}
        used = {e.name for e in walk(e for _, e in outputs) if e.op == "slot"} | {n for n, _ in outputs}
        extra = [n for n in dict.fromkeys(self.homes.values()) if n in used and n not in (*self.trace.slots,)]
        states = [s for n, s in own.items() if n in used] + [State(TEMPORARY + n, name=n) for n in extra]
        same = _same(self.trace)
        return replace(self.trace, states=tuple(states), outputs=outputs, cells=same, running=(), factors=())

    def _with_cells(self, pieces: list[Piece]) -> tuple[Piece, ...]:
        """Numbers kept for a tensor get their new values in the last part."""
        last = max(i for i, piece in enumerate(pieces) if isinstance(piece, Trace))
        part = pieces[last]
        assert isinstance(part, Trace)
        pieces[last] = replace(part, cells=self.trace.cells)
        return tuple(pieces)


def _traffic(pieces: tuple[_Draft | _Node, ...]) -> int:
    """Tensors read and written by the parts, which is what the choice is about."""
    parts = [piece for piece in pieces if isinstance(piece, _Draft)]
    read = [{part.held[e] for e in part.leaves if e in part.held} for part in parts]
    return sum(map(len, read)) + sum(len(part.outputs) for part in parts)
