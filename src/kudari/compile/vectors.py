"""What rows or columns share is taken out of a pass: computed once for each of them, before the pass.

The root of a number for each column, say: in the inner loop it would be taken for every element again.
"""

from __future__ import annotations

from dataclasses import replace

from kudari.compile.expression import SUMS, Expr, rebuild, slot, walk
from kudari.compile.passes import RawPass
from kudari.compile.program import Vector, sum_name
from kudari.errors import CompileError


def take_out(
    part: RawPass, taken: int, known: dict[Expr, Expr]
) -> tuple[tuple[Vector, ...], RawPass, list[tuple[str, Expr]]]:
    """Replace every largest expression with one value a row or column by a scratch slot.

    Args:
        part: the pass.
        taken: how many scratch slots the program has.
        known: scratch slots of earlier passes by what they hold; this pass's are added, and those that hold
            something made of what it overwrites are dropped.

    Returns:
        What is computed before the pass, in order; the pass without it; and name and slot of new scratch
        slots, those of the pass's own row and column sums included.
    """
    made: list[Vector] = []
    added: list[tuple[str, Expr]] = []

    def keep(expr: Expr, total: bool) -> Expr:
        if expr in known:
            return known[expr]
        kind = expr.args[0].kind if total else expr.kind
        place = slot(f"~{taken + len(added)}", kind)
        added.append((place.name, place))
        made.append(Vector(place.name, expr.args[0] if total else expr, total))
        known[expr] = place
        return place

    done: dict[Expr, Expr] = {}

    def settle(root: Expr) -> Expr:
        """The expression with the sums over rows or columns in it taken out."""
        for item in walk([root]):
            if item not in done:
                again = rebuild(item, tuple(done[a] for a in item.args))
                done[item] = keep(again, True) if again.op in SUMS else again
        return done[root]

    for name, expr in part.vectors:
        made.append(Vector(name, settle(expr)))
        for stale in [e for e in known if any(x.op == "slot" and x.name == name for x in walk([e]))]:
            del known[stale]
    roots = [*(e for _, e in part.outputs), *(e for e, _ in part.sums)]
    for item in walk(roots):
        if item.kind != "tensor":
            done[item] = item if item.kind == "scalar" else settle(item)
            continue
        args = [done[a] for a in item.args]
        for i, arg in enumerate(args):
            if arg.kind in ("row", "column") and arg.op != "slot":
                args[i] = done[item.args[i]] = keep(arg, False)
        done[item] = rebuild(item, tuple(args))
    for vector in made:
        _check(vector)
    for i, (_, scope) in enumerate(part.sums):
        if scope in ("row", "column"):
            place = slot(sum_name(part.first_sum + i), scope)
            added.append((place.name, place))
    body = replace(
        part,
        outputs=tuple((n, done[e]) for n, e in part.outputs),
        sums=tuple((done[e], scope) for e, scope in part.sums),
        vectors=(),
    )
    return tuple(made), body, added


def _check(vector: Vector) -> None:
    kinds = {e.kind for e in walk([vector.expr])} - {"scalar"}
    if len(kinds) > 1:
        raise CompileError(
            f"{vector.expr} mixes what has one value a row with what has one a column or matrix.",
            fix="Multiply it with elements first, or sum over the same dimension twice.",
        )
