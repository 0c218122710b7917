"""What the Triton printer knows: everything else about a program is refused, also what is new to it."""

from __future__ import annotations

from kudari.compile.codecs import CODECS
from kudari.compile.expression import walk
from kudari.compile.program import BYTES, SHAPES, Pass, Program, Slot, Sum, Vector, sum_name
from kudari.errors import CompileError

_SCOPES = {"tensor": "", "model": "", "row": "rows", "column": "columns"}


def refuse_unknown(program: Program) -> None:
    """Raise CompileError if a program has anything that the printer has no code for."""
    slots = {slot.name: slot for slot in program.slots}
    for slot in program.slots:
        # Rebuilt from what is printed, it is the same only if it has nothing else to it.
        again = Slot(slot.name, slot.dtype, slot.shape, slot.every, slot.scratch)
        small = slot.shape != "elements"
        if slot != again or slot.dtype not in (*BYTES, *CODECS) or (slot.scratch and not small):
            raise _unknown(f"{slot.name!r} as it is stored ({slot})")
    for part in program.passes:
        _refuse_unknown_pass(program, part, slots)
    if program.mixes_codes:
        raise _unknown("coded states in passes over rows, columns or every k-th element")
    if program.by_rows and any(part.every != 1 for part in program.passes):
        raise _unknown("a pass over every k-th element beside passes over rows")
    known = (program.name, program.slots, program.hypers, program.passes, program.compute)
    if program != Program(*known, program.cells, program.running, program.counts):
        raise _unknown("all that this rule's program has beside its passes")


def _refuse_unknown_pass(program: Program, part: Pass, slots: dict[str, Slot]) -> None:
    if part != Pass(part.scalars, part.outputs, part.sums, part.first_sum, part.vectors, part.every):
        raise _unknown("all that a pass of this rule does")
    for index, added in enumerate(part.sums, part.first_sum):
        shape = _SCOPES.get(added.scope)
        place = slots.get(sum_name(index))
        if shape is None or added != Sum(added.expr, added.scope):
            raise _unknown(f"a sum over each {added.scope}")
        if shape and (place is None or not place.scratch or place.shape != shape):
            raise _unknown(f"a sum over each {added.scope} that is kept nowhere")
    for vector in part.vectors:
        if vector != Vector(vector.name, vector.expr, vector.total) or slots[vector.name].shape == "elements":
            raise _unknown(f"how {vector.name!r} is computed between passes")
    for item in walk((*part.roots, *(v.expr for v in part.vectors))):
        if item.op == "slot" and SHAPES.get(item.kind) != slots[item.name].shape:
            raise _unknown(f"{item.name!r}, which has one value for each of the {slots[item.name].shape}")
    for name in (*part.reads, *part.writes):
        slot = slots[name]
        if slot.shape != "elements" or part.every % slot.every:
            raise _unknown(f"{name!r} in a pass over elements ({slot})")
        if name in part.writes and slot.every != part.every:
            raise _unknown(f"new values of {name!r} for every {part.every}-th element only")


def _unknown(what: str) -> CompileError:
    return CompileError(f"The Triton printer does not know {what}.")
