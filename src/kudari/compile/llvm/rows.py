"""Passes that go by rows: sums over rows and columns, and factors that rows and columns share.

A chunk is a run of whole rows: a piece of one matrix, or several whole matrices where they are small. It adds
its columns up in a place of its own; where a matrix has been cut, the pieces are added afterwards, in order.
"""

from __future__ import annotations

from kudari.compile.expression import Expr, walk
from kudari.compile.llvm.block import TYPES, Block
from kudari.compile.llvm.chunk import add_up, base_type, head_of, indent, prefetch, tail_mask
from kudari.compile.llvm.rounding import random_bits
from kudari.compile.program import Float, Pass, Program, Slot, sum_name
from kudari.errors import CompileError

# What a chunk is given beside the usual: the tensor's matrices, rows and columns; where its column sums go.
ARGUMENTS = ", ptr %my.dims, i64 %my.column_at"


def place(program: Program) -> str:
    """What the worker looks up for a chunk beside the usual."""
    if not program.by_rows:
        return ""
    return """  %dims.row = mul i64 %tensor, 3
  %my.dims = getelementptr i64, ptr %dims, i64 %dims.row
  %my.column.p = getelementptr i64, ptr %column_at, i64 %c
  %my.column_at = load i64, ptr %my.column.p, align 8"""


def slot_of(program: Program, name: str) -> tuple[int, Slot]:
    """A slot and its place in the table."""
    return next((i, s) for i, s in enumerate(program.slots) if s.name == name)


def _number(block: Block, dtype: Float, pointer: str) -> str:
    """One stored number in every lane."""
    number = block.emit(f"load {TYPES[dtype]}, ptr {pointer}")
    if dtype not in ("f32", "f64"):
        raise CompileError(f"A number for each row cannot be stored as {dtype}.", fix="Store it as f32.")
    if TYPES[dtype] != block.base:
        number = block.emit(f"fpext float {number} to double")
    return block.splat(number)


def _row_numbers(program: Program, part: Pass, block: Block) -> dict[Expr, str]:
    """What the row at %r has one value of."""
    found: dict[Expr, str] = {}
    for item in walk(part.roots):
        if item.op == "slot" and item.kind == "row":
            index, slot = slot_of(program, item.name)
            pointer = block.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{index}, i64 %r")
            found[item] = _number(block, slot.plain, pointer)
    return found


def _update(
    program: Program, part: Pass, block: Block, j: str, mask: str, known: dict[Expr, str]
) -> dict[int, str]:
    """One vector of a row: load, compute, store; add to the column sums. Returns what else is summed."""
    offset = block.emit(f"add i64 %base, {j}")
    above = block.emit(f"add i64 %above, {j}")
    values = dict(known)
    for item in walk(part.roots):
        if item.op == "noise":
            values[item] = random_bits(block, offset)
        if item.op == "slot" and item.kind != "row":
            index, slot = slot_of(program, item.name)
            at = above if item.kind == "column" else offset
            pointer = block.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{index}, i64 {at}")
            values[item] = block.load(slot.plain, pointer, mask)
            if item.kind == "tensor" and not (mask or part.outputs):
                prefetch(block, slot.plain, pointer)
    values = block.compute(part.roots, values)
    for name, expr in part.outputs:
        index, slot = slot_of(program, name)
        pointer = block.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{index}, i64 {offset}")
        block.store(slot.plain, values[expr], pointer, mask)
    found: dict[int, str] = {}
    for i, summed in enumerate(part.sums):
        added = values[summed.expr]
        if mask:  # lanes beyond the end add nothing
            zero = block.number(0.0)
            added = block.emit(f"select {block.mask} {mask}, {block.type} {added}, {block.type} {zero}")
        if summed.scope == "column":
            _add_to_columns(program, part.first_sum + i, block, (j, mask, added))
        else:
            found[i] = added
    return found


def _add_to_columns(program: Program, index: int, block: Block, what: tuple[str, str, str]) -> None:
    """Add a vector to a column sum; the first row of a matrix in the chunk begins it."""
    j, mask, added = what
    number, slot = slot_of(program, sum_name(index))
    at = block.emit(f"add i64 %sums.at, {j}")
    pointer = block.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{number}, i64 {at}")
    old = block.load(slot.plain, pointer, mask)
    old = block.emit(f"select i1 %first, {block.type} {block.number(0.0)}, {block.type} {old}")
    new = block.emit(f"fadd {block.type} {old}, {added}")
    block.store(slot.plain, new, pointer, mask)


def lanes_added(block: Block, vector: str) -> str:
    """The sum of a vector's lanes, halves first; the order is always the same."""
    width = block.width
    while width > 1:
        width //= 2
        picked = ", ".join(f"i32 {i + width if i < width else 0}" for i in range(block.width))
        other = block.emit(
            f"shufflevector {block.type} {vector}, {block.type} poison, <{block.width} x i32> <{picked}>"
        )
        vector = block.emit(f"fadd {block.type} {vector}, {other}")
    return block.emit(f"extractelement {block.type} {vector}, i64 0")


def print_chunk(program: Program, number: int, width: int, declared: set[str]) -> str:
    """The inner loops of a pass: rows [from, to) of one tensor's matrices, one under the other."""
    part = program.passes[number]
    base = base_type(program)
    head = Block(base, width, "h", declared)
    numbers = head_of(program, part, head)
    mask = tail_mask(head)
    row = Block(base, width, "w", declared)
    numbers = numbers | _row_numbers(program, part, row)
    main, tail = Block(base, width, "m", declared), Block(base, width, "t", declared)
    added = _update(program, part, main, "%j", "", numbers)
    rest = _update(program, part, tail, "%whole", mask, numbers)
    end, last = Block(base, width, "x", declared), Block(base, width, "e", declared)
    kind, zero = head.type, head.number(0.0)
    phis: dict[str, list[str]] = {"rows": [], "loop": [], "after": [], "done": []}
    totals: dict[int, str] = {}
    for i, a in added.items():
        main.lines.append(f"%sum{i}.next = fadd {kind} %sum{i}, {a}")
        tail.lines.append(f"%sum{i}.rest = fadd {kind} %sum{i}.after, {rest[i]}")
        start = zero
        if part.sums[i].scope == "row":
            index, slot = slot_of(program, sum_name(part.first_sum + i))
            total = lanes_added(end, f"%sum{i}.all")
            pointer = end.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{index}, i64 %r")
            end.lines.append(f"store {base} {total}, ptr {pointer}")
        else:
            start = f"%sum{i}.row"
            phis["rows"].append(f"%sum{i}.row = phi {kind} [ {zero}, %entry ], [ %sum{i}.all, %done ]")
            totals[i] = f"%sum{i}.all"
        phis["loop"].append(f"%sum{i} = phi {kind} [ {start}, %rows ], [ %sum{i}.next, %loop ]")
        phis["after"].append(f"%sum{i}.after = phi {kind} [ {start}, %rows ], [ %sum{i}.next, %loop ]")
        phis["done"].append(f"%sum{i}.all = phi {kind} [ %sum{i}.after, %after ], [ %sum{i}.rest, %tail ]")
    add_up(part, last, totals)
    return f"""
define internal void @chunk{number}(
    ptr noalias %slots, ptr noalias %scalars, ptr noalias %partial, i64 %from, i64 %to,
    ptr noalias %dims, i64 %column_at) #0 {{
entry:
  %rows.p = getelementptr i64, ptr %dims, i64 1
  %height = load i64, ptr %rows.p, align 8
  %columns.p = getelementptr i64, ptr %dims, i64 2
  %columns = load i64, ptr %columns.p, align 8
  %left = and i64 %columns, {width - 1}
  %whole = sub i64 %columns, %left
  %any = icmp sgt i64 %whole, 0
  %rest = icmp ne i64 %left, 0
  %matrix.from = udiv i64 %from, %height
{indent(head.lines)}
  br label %rows
rows:
  %r = phi i64 [ %from, %entry ], [ %r.next, %done ]
{indent(phis["rows"])}
  %matrix = udiv i64 %r, %height
  %top = mul i64 %matrix, %height
  %is.top = icmp eq i64 %r, %top
  %is.from = icmp eq i64 %r, %from
  %first = or i1 %is.top, %is.from
  %base = mul i64 %r, %columns
  %above = mul i64 %matrix, %columns
  %down = sub i64 %matrix, %matrix.from
  %down.at = mul i64 %down, %columns
  %sums.at = add i64 %down.at, %column_at
{indent(row.lines)}
  br i1 %any, label %loop, label %after
loop:
  %j = phi i64 [ 0, %rows ], [ %next, %loop ]
{indent(phis["loop"])}
{indent(main.lines)}
  %next = add i64 %j, {width}
  %more = icmp slt i64 %next, %whole
  br i1 %more, label %loop, label %after
after:
{indent(phis["after"])}
  br i1 %rest, label %tail, label %done
tail:
{indent(tail.lines)}
  br label %done
done:
{indent(phis["done"])}
{indent(end.lines)}
  %r.next = add i64 %r, 1
  %again = icmp slt i64 %r.next, %to
  br i1 %again, label %rows, label %end
end:
{indent(last.lines)}
  ret void
}}"""
