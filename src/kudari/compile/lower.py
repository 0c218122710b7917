"""Lowering: from what a rule says to what a kernel does, one small pass after another.

Each step keeps the meaning and changes rounding by at most an ulp of an intermediate value:

1. ``reciprocal``: dividing by a number that is the same for the whole tensor becomes a multiplication.
2. ``gather``: such numbers that multiply the same tensor are multiplied together first, in float64. Both
   go from node to node, arguments first, in one walk.
3. ``split`` (in :mod:`kudari.compile.passes`): sums cut the work into passes over memory.
4. ``vectors`` (in :mod:`kudari.compile.vectors`): what rows or columns share is computed once for each.
5. ``hoist``: everything without a tensor in it moves to the host and is computed once per step in float64.
6. ``contract``: a product that is used once, by a sum, becomes a fused multiply-add.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal, cast

from kudari.compile.expression import Expr, const, hyper, node, rebuild, walk
from kudari.compile.passes import Outputs, RawPass, Update, split
from kudari.compile.program import (
    EPSILON,
    SHAPES,
    STORED_BYTES,
    Float,
    Pass,
    Program,
    Slot,
    Storage,
    Sum,
    Vector,
)
from kudari.compile.trace import Trace
from kudari.compile.vectors import take_out


def lower(trace: Trace, dtypes: Mapping[str, Storage], counts: bool = True) -> Program:
    """Make the program of a traced rule.

    Args:
        trace: the rule under one choice of options.
        dtypes: storage type of every slot in ``trace.slots``.
        counts: see :class:`~kudari.compile.program.Program`.
    """
    return _lower(trace, tuple(dtypes[name] for name in trace.slots), counts)


@functools.lru_cache(maxsize=512)
def _lower(trace: Trace, storage: tuple[Storage, ...], counts: bool) -> Program:
    """Kept, because every group of every optimizer asks, and choosing the passes takes a while."""
    dtypes = dict(zip(trace.slots, storage, strict=True))
    sizes = {name: STORED_BYTES[dtypes[name]] for name in trace.slots}
    every = dict(trace.every)
    compute: Literal["f64", "f32"] = "f64" if dtypes["p"] == "f64" else "f32"
    raw, running = split(_update(trace, EPSILON[cast(Float, dtypes["p"])]), sizes, every)
    shapes = {state.name: state.shape for state in trace.states if state.shape != "factors"}
    slots = [Slot(n, dtypes[n], shapes.get(n, "elements"), every.get(n, 1)) for n in trace.slots]
    passes: list[Pass] = []
    known: dict[Expr, Expr] = {}
    for part in raw:
        scratch = sum(s.scratch for s in slots)
        vectors, body, added = take_out(part, scratch, known)
        slots += [Slot(name, compute, SHAPES[e.kind], scratch=True) for name, e in added]
        passes.append(_finish(body, vectors))
    cells = tuple((state.name, new) for state, new in trace.cells)
    cells += tuple((name, hyper(name)) for name in trace.measures)
    return Program(trace.name, tuple(slots), trace.hypers, tuple(passes), compute, cells, running, counts)


def _update(trace: Trace, epsilon: float) -> Update:
    """The new values, simplified together so that they go on sharing what they share."""
    together = (*trace.outputs, *trace.running)
    together = bottom_up(together, lambda e: gather(reciprocal(_constant(e, epsilon))))
    stores = len(trace.outputs)
    small = {s.name for s in trace.states if s.shape != "elements"}
    outputs = together[:stores]
    return Update(
        tuple((n, e) for n, e in outputs if n not in small),
        tuple((n, e) for n, e in outputs if n in small),
        together[stores:],
    )


def _constant(item: Expr, epsilon: float) -> Expr:
    return const(epsilon) if item.op == "hyper" and item.name == "machine_epsilon" else item


def _finish(raw: RawPass, vectors: tuple[Vector, ...]) -> Pass:
    """Hoist and contract one pass; stores and sums share what they have in common."""
    stores, sums = len(raw.outputs), len(raw.outputs) + len(raw.sums)
    together = (*raw.outputs, *(("", e) for e, _ in raw.sums), *((v.name, v.expr) for v in vectors))
    scalars, body = contract(*hoist(together))
    return Pass(
        scalars,
        body[:stores],
        tuple(Sum(e, scope) for (_, e), (_, scope) in zip(body[stores:sums], raw.sums, strict=True)),
        raw.first_sum,
        tuple(Vector(name, e, v.total) for (name, e), v in zip(body[sums:], vectors, strict=True)),
        raw.every,
    )


def reciprocal(item: Expr) -> Expr:
    """x / s -> x * (1 / s) for a tensor x and a number s."""
    if item.op == "div" and item.kind == "tensor" and item.args[1].kind == "scalar":
        return node("mul", item.args[0], node("div", 1.0, item.args[1]))
    return item


def gather(item: Expr) -> Expr:
    """s * (r * x) -> (s * r) * x, and s * (x / y) -> (s * x) / y, so that numbers meet on the host."""
    if item.kind != "tensor" or item.op not in ("mul", "div"):
        return item
    if item.op == "div":
        number, rest = _apart(item.args[0])
        return item if number is None else node("mul", number, node("div", rest, item.args[1]))
    number, rest = _apart(item)
    if number is None:
        return item
    inner, rest = _apart(rest)
    if inner is not None:
        number = node("mul", number, inner)
    if rest.op == "div":
        return node("div", node("mul", number, rest.args[0]), rest.args[1])
    return node("mul", number, rest)


def _apart(item: Expr) -> tuple[Expr | None, Expr]:
    """A product of a number and something else, as the two; or nothing and the whole."""
    if item.op == "mul" and item.kind == "tensor":
        a, b = item.args
        if a.kind == "scalar":
            return a, b
        if b.kind == "scalar":
            return b, a
    return None, item


def hoist(outputs: Outputs) -> tuple[tuple[Expr, ...], Outputs]:
    """Replace every largest expression without a tensor by ``s0``, ``s1``, ...; constants stay."""
    numbers: dict[Expr, Expr] = {}
    for item in walk(e for _, e in outputs):
        if item.kind != "scalar":
            for arg in item.args:
                if arg.kind == "scalar" and arg.op != "const" and arg not in numbers:
                    numbers[arg] = hyper(f"s{len(numbers)}")
    done: dict[Expr, Expr] = dict(numbers)
    for item in walk(e for _, e in outputs):
        if item not in done:
            args = item.args if item.kind == "scalar" else tuple(done[a] for a in item.args)
            done[item] = item if item.kind == "scalar" else rebuild(item, args)
    return tuple(numbers), tuple((name, done[e]) for name, e in outputs)


def contract(scalars: tuple[Expr, ...], outputs: Outputs) -> tuple[tuple[Expr, ...], Outputs]:
    """a*b + c -> fma(a, b, c) where the product has no other use; likewise with minus."""
    uses = Counter(arg for item in walk(e for _, e in outputs) for arg in item.args)
    uses.update(e for _, e in outputs)

    def product(item: Expr, original: Expr) -> bool:
        return item.op == "mul" and item.kind == "tensor" and uses[original] == 1

    done: dict[Expr, Expr] = {}
    for item in walk(e for _, e in outputs):
        args = tuple(done[a] for a in item.args)
        done[item] = rebuild(item, args)
        if item.op not in ("add", "sub") or item.kind != "tensor":
            continue
        (a, b), (old_a, old_b) = args, item.args
        if product(b, old_b):
            first = node("neg", b.args[0]) if item.op == "sub" else b.args[0]
            done[item] = node("fma", first, b.args[1], a)
        elif product(a, old_a):
            done[item] = node("fma", a.args[0], a.args[1], node("neg", b) if item.op == "sub" else b)
    return scalars, tuple((name, done[e]) for name, e in outputs)


def bottom_up(outputs: Outputs, change: Callable[[Expr], Expr]) -> Outputs:
    """Change every node, its arguments before it."""
    done: dict[Expr, Expr] = {}
    for item in walk(e for _, e in outputs):
        done[item] = change(rebuild(item, tuple(done[a] for a in item.args)))
    return tuple((name, done[e]) for name, e in outputs)
