"""What passes by rows need between them: column sums of cut matrices, and numbers for rows and columns."""

from __future__ import annotations

from kudari.compile.expression import Expr, walk
from kudari.compile.llvm.block import TYPES, Block
from kudari.compile.llvm.chunk import base_type, indent
from kudari.compile.llvm.context import load_address, load_count
from kudari.compile.llvm.rows import lanes_added, slot_of
from kudari.compile.program import Program, Vector, sum_name


def print_between(program: Program, number: int, width: int, declared: set[str]) -> list[str]:
    """Functions that run before a pass's chunks, and after them."""
    part = program.passes[number]
    found = [_print_vectors(program, number, width, declared)] if part.vectors else []
    if any(s.scope == "column" for s in part.sums):
        found.append(_print_fold(program, number, width, declared))
    return found


def _wanted(block: Block, at: str, end: str) -> str:
    """Which lanes of the vector that begins at element ``at`` come before ``end``."""
    width = block.width
    left = block.emit(f"sub i64 {end}, {at}")
    lanes = f"<{', '.join(f'i64 {k}' for k in range(width))}>"
    one = block.emit(f"insertelement <{width} x i64> poison, i64 {left}, i64 0")
    zeros = f"<{width} x i32> zeroinitializer"
    spread = block.emit(f"shufflevector <{width} x i64> {one}, <{width} x i64> poison, {zeros}")
    return block.emit(f"icmp slt <{width} x i64> {lanes}, {spread}")


def _print_vectors(program: Program, number: int, width: int, declared: set[str]) -> str:
    """Compute what rows and columns have one value of, tensor by tensor."""
    part, base = program.passes[number], base_type(program)
    head = Block(base, width, "h", declared)
    numbers: dict[Expr, str] = {}
    used = {e.name: e for v in part.vectors for e in walk([v.expr]) if e.op == "hyper"}
    for i in range(len(part.scalars)):
        if f"s{i}" in used:
            pointer = head.emit(f"getelementptr {base}, ptr %row, i64 {i}")
            numbers[used[f"s{i}"]] = head.splat(head.emit(f"load {base}, ptr {pointer}, align 4"))
    for i in range(len(program.slots)):
        head.lines.append(f"%slotp{i} = getelementptr ptr, ptr %my.slots, i64 {i}")
        head.lines.append(f"%slot{i} = load ptr, ptr %slotp{i}, align 8")
    loops = []
    for i, vector in enumerate(part.vectors):
        after = f"v{i + 1}" if i + 1 < len(part.vectors) else "advance"
        loop = _total if vector.total else _elementwise
        loops.append(loop(program, vector, Block(base, width, f"v{i}_", declared), (numbers, f"v{i}", after)))
    return f"""
define internal void @vectors{number}(ptr %context) #0 {{
entry:
{load_count("tensors")}
{load_address("slots")}
{load_address("scalars")}
{load_address("dims")}
  %some = icmp sgt i64 %tensors, 0
  br i1 %some, label %each, label %over
each:
  %k = phi i64 [ 0, %entry ], [ %k.next, %advance ]
  %slots.row = mul i64 %k, {program.columns}
  %my.slots = getelementptr ptr, ptr %slots, i64 %slots.row
  %scalars.row = mul i64 %k, {program.scalars_per_tensor}
  %row = getelementptr {base}, ptr %scalars, i64 %scalars.row
  %dims.row = mul i64 %k, 3
  %matrices.p = getelementptr i64, ptr %dims, i64 %dims.row
  %matrices = load i64, ptr %matrices.p, align 8
  %rows.p = getelementptr i64, ptr %matrices.p, i64 1
  %rows = load i64, ptr %rows.p, align 8
  %columns.p = getelementptr i64, ptr %matrices.p, i64 2
  %columns = load i64, ptr %columns.p, align 8
{indent(head.lines)}
  br label %v0
{"".join(loops)}advance:
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %tensors
  br i1 %more, label %each, label %over
over:
  ret void
}}"""


def _read(program: Program, vector: Vector, block: Block, at: str, mask: str) -> dict[Expr, str]:
    """Load what the expression reads."""
    found: dict[Expr, str] = {}
    for item in walk([vector.expr]):
        if item.op == "slot":
            index, slot = slot_of(program, item.name)
            pointer = block.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{index}, i64 {at}")
            found[item] = block.load(slot.plain, pointer, mask)
    return found


def _elementwise(
    program: Program, vector: Vector, block: Block, names: tuple[dict[Expr, str], str, str]
) -> str:
    """One loop over all rows, or columns, of all matrices of the tensor."""
    numbers, v, after = names
    index, slot = slot_of(program, vector.name)
    mask = _wanted(block, f"%{v}.i", f"%{v}.n")
    values = block.compute([vector.expr], numbers | _read(program, vector, block, f"%{v}.i", mask))
    pointer = block.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{index}, i64 %{v}.i")
    block.store(slot.plain, values[vector.expr], pointer, mask)
    return f"""{v}:
  %{v}.n = mul i64 %matrices, %{slot.shape}
  br label %{v}.loop
{v}.loop:
  %{v}.i = phi i64 [ 0, %{v} ], [ %{v}.next, %{v}.loop ]
{indent(block.lines)}
  %{v}.next = add i64 %{v}.i, {block.width}
  %{v}.more = icmp slt i64 %{v}.next, %{v}.n
  br i1 %{v}.more, label %{v}.loop, label %{after}
"""


def _total(program: Program, vector: Vector, block: Block, names: tuple[dict[Expr, str], str, str]) -> str:
    """For each matrix, a loop that adds up and one that gives the sum to all its rows, or columns."""
    numbers, v, after = names
    index, slot = slot_of(program, vector.name)
    end, spread = (Block(block.base, block.width, f"{v}{x}_", block.declared) for x in "es")
    mask = _wanted(block, f"%{v}.i", f"%{v}.end")
    values = block.compute([vector.expr], numbers | _read(program, vector, block, f"%{v}.i", mask))
    zero, kind = block.number(0.0), block.type
    added = block.emit(f"select {block.mask} {mask}, {kind} {values[vector.expr]}, {kind} {zero}")
    block.lines.append(f"%{v}.sum.next = fadd {kind} %{v}.sum, {added}")
    every = end.splat(lanes_added(end, f"%{v}.sum.next"))
    here = _wanted(spread, f"%{v}.o", f"%{v}.end")
    pointer = spread.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{index}, i64 %{v}.o")
    spread.store(slot.plain, every, pointer, here)
    return f"""{v}:
  br label %{v}.matrix
{v}.matrix:
  %{v}.b = phi i64 [ 0, %{v} ], [ %{v}.b.next, %{v}.done ]
  %{v}.begin = mul i64 %{v}.b, %{slot.shape}
  %{v}.end = add i64 %{v}.begin, %{slot.shape}
  br label %{v}.loop
{v}.loop:
  %{v}.i = phi i64 [ %{v}.begin, %{v}.matrix ], [ %{v}.next, %{v}.loop ]
  %{v}.sum = phi {kind} [ {zero}, %{v}.matrix ], [ %{v}.sum.next, %{v}.loop ]
{indent(block.lines)}
  %{v}.next = add i64 %{v}.i, {block.width}
  %{v}.more = icmp slt i64 %{v}.next, %{v}.end
  br i1 %{v}.more, label %{v}.loop, label %{v}.summed
{v}.summed:
{indent(end.lines)}
  br label %{v}.out
{v}.out:
  %{v}.o = phi i64 [ %{v}.begin, %{v}.summed ], [ %{v}.o.next, %{v}.out ]
{indent(spread.lines)}
  %{v}.o.next = add i64 %{v}.o, {block.width}
  %{v}.o.more = icmp slt i64 %{v}.o.next, %{v}.end
  br i1 %{v}.o.more, label %{v}.out, label %{v}.done
{v}.done:
  %{v}.b.next = add i64 %{v}.b, 1
  %{v}.left = icmp slt i64 %{v}.b.next, %matrices
  br i1 %{v}.left, label %{v}.matrix, label %{after}
"""


def _print_fold(program: Program, number: int, width: int, declared: set[str]) -> str:
    """Add up the column sums of the pieces of cut matrices, in float64 and in the order of the pieces.

    A row of the table ``folds`` is one matrix: tensor, place of its sums, place of the first piece's, number
    of pieces, columns; places count from the tensor's first column sum.
    """
    part = program.passes[number]
    wanted = [sum_name(i) for i, s in enumerate(part.sums, part.first_sum) if s.scope == "column"]
    labels = [*(f"f{i}" for i in range(len(wanted))), "advance"]
    sums = [
        _fold_one(program, name, (labels[i], labels[i + 1]), (width, declared))
        for i, name in enumerate(wanted)
    ]
    names = ("tensor", "final", "piece", "pieces", "columns")
    look_up = []
    for i, name in enumerate(names):
        look_up += [
            f"%{name}.p = getelementptr i64, ptr %fold, i64 {i}",
            f"%{name} = load i64, ptr %{name}.p, align 8",
        ]
    return f"""
define internal void @fold{number}(ptr %context) #0 {{
entry:
{load_count("fold_count")}
{load_address("folds")}
{load_address("slots")}
  %some = icmp sgt i64 %fold_count, 0
  br i1 %some, label %each, label %over
each:
  %k = phi i64 [ 0, %entry ], [ %k.next, %advance ]
  %at = mul i64 %k, {len(names)}
  %fold = getelementptr i64, ptr %folds, i64 %at
{indent(look_up)}
  %slots.row = mul i64 %tensor, {program.columns}
  %my.slots = getelementptr ptr, ptr %slots, i64 %slots.row
  br label %f0
{"".join(sums)}advance:
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %fold_count
  br i1 %more, label %each, label %over
over:
  ret void
}}"""


def _fold_one(program: Program, name: str, labels: tuple[str, str], how: tuple[int, set[str]]) -> str:
    """The loops over columns and pieces for one column sum."""
    f, after = labels
    width, declared = how
    index, slot = slot_of(program, name)
    wide = Block("double", width, f"{f}w", declared)
    head, body, end = (Block(base_type(program), width, f"{f}{x}", declared) for x in "hbe")
    mask = _wanted(head, f"%{f}.j", "%columns")
    pointer = body.emit(f"getelementptr {head.base}, ptr %{f}.sums, i64 %{f}.at")
    value = body.load(slot.plain, pointer, mask)
    total = f"%{f}.new"
    if head.base == "float":
        value = body.emit(f"fpext {head.type} {value} to {wide.type}")
        total = end.emit(f"fptrunc {wide.type} {total} to {head.type}")
    place = end.emit(f"add i64 %final, %{f}.j")
    end.store(slot.plain, total, end.emit(f"getelementptr {head.base}, ptr %{f}.sums, i64 {place}"), mask)
    return f"""{f}:
  %{f}.p = getelementptr ptr, ptr %my.slots, i64 {index}
  %{f}.sums = load ptr, ptr %{f}.p, align 8
  br label %{f}.columns
{f}.columns:
  %{f}.j = phi i64 [ 0, %{f} ], [ %{f}.j.next, %{f}.store ]
{indent(head.lines)}
  %{f}.from = add i64 %piece, %{f}.j
  br label %{f}.add
{f}.add:
  %{f}.n = phi i64 [ 0, %{f}.columns ], [ %{f}.n.next, %{f}.add ]
  %{f}.at = phi i64 [ %{f}.from, %{f}.columns ], [ %{f}.at.next, %{f}.add ]
  %{f}.sum = phi {wide.type} [ {wide.number(0.0)}, %{f}.columns ], [ %{f}.new, %{f}.add ]
{indent(body.lines)}
  %{f}.new = fadd {wide.type} %{f}.sum, {value}
  %{f}.n.next = add i64 %{f}.n, 1
  %{f}.at.next = add i64 %{f}.at, %columns
  %{f}.again = icmp slt i64 %{f}.n.next, %pieces
  br i1 %{f}.again, label %{f}.add, label %{f}.store
{f}.store:
{indent(end.lines)}
  %{f}.j.next = add i64 %{f}.j, {width}
  %{f}.left = icmp slt i64 %{f}.j.next, %columns
  br i1 %{f}.left, label %{f}.columns, label %{after}
"""
