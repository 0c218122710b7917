"""The inner loop of a pass: whole vectors of one tensor, then a masked tail, then the chunk's sums."""

from __future__ import annotations

from collections.abc import Iterable

from kudari.compile.expression import Expr, walk
from kudari.compile.llvm.block import TYPES, Block
from kudari.compile.llvm.gather import gather
from kudari.compile.llvm.rounding import load_key, random_bits
from kudari.compile.program import BYTES, Float, Pass, Program


def indent(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def base_type(program: Program) -> str:
    """LLVM's name of the type of the arithmetic."""
    return "double" if program.compute == "f64" else "float"


def load_slots(program: Program, part: Pass, block: Block, offset: str, mask: str) -> dict[Expr, str]:
    """Load every plain slot the pass reads at an element offset, and draw the random bits it asks for."""
    found: dict[Expr, str] = {}
    for item in walk(part.roots):
        if item.op == "noise":
            found[item] = random_bits(block, offset)
        if item.op == "slot" and item.name not in program.coded:
            index = next(i for i, s in enumerate(program.slots) if s.name == item.name)
            dtype = program.slots[index].plain
            step = part.every // program.slots[index].every
            if step > 1:
                found[item] = gather(block, dtype, f"%slot{index}", offset, step, mask)
                continue
            pointer = block.emit(f"getelementptr {TYPES[dtype]}, ptr %slot{index}, i64 {offset}")
            found[item] = block.load(dtype, pointer, mask)
            if not (mask or part.outputs):
                prefetch(block, dtype, pointer)
    return found


def _update(
    program: Program, part: Pass, block: Block, offset: str, mask: str, numbers: dict[Expr, str]
) -> list[str]:
    """Load, compute and store one vector of every slot; returns the names of the vectors to be summed."""
    values = block.compute(part.roots, numbers | load_slots(program, part, block, offset, mask))
    new = dict(part.outputs)
    for index, slot in enumerate(program.slots):
        if slot.name in new:
            pointer = block.emit(f"getelementptr {TYPES[slot.plain]}, ptr %slot{index}, i64 {offset}")
            block.store(slot.plain, values[new[slot.name]], pointer, mask)
    return sum_vectors(part, block, values, mask)


def sum_vectors(part: Pass, block: Block, values: dict[Expr, str], mask: str) -> list[str]:
    """What one vector of elements adds to each sum."""
    found = [values[s.expr] for s in part.sums]
    if mask:  # lanes beyond the end add nothing, whatever the formula makes of zeros
        zero = block.number(0.0)
        found = [
            block.emit(f"select {block.mask} {mask}, {block.type} {x}, {block.type} {zero}") for x in found
        ]
    return found


def head_of(program: Program, part: Pass, block: Block) -> dict[Expr, str]:
    """Addresses of the slots, and the tensor's numbers spread over vectors."""
    for i in range(len(program.slots)):
        block.lines.append(f"%slotp{i} = getelementptr ptr, ptr %slots, i64 {i}")
        block.lines.append(f"%slot{i} = load ptr, ptr %slotp{i}, align 8")
    if program.draws:
        load_key(block, program.columns - 1)
    numbers: dict[Expr, str] = {}
    used = {item.name: item for item in walk(part.roots) if item.op == "hyper"}
    for i in range(len(part.scalars)):
        if f"s{i}" in used:
            pointer = block.emit(f"getelementptr {block.base}, ptr %scalars, i64 {i}")
            number = block.emit(f"load {block.base}, ptr {pointer}, align 4")
            numbers[used[f"s{i}"]] = block.splat(number)
    return numbers


def tail_mask(block: Block) -> str:
    """Which lanes of the last vector hold elements."""
    width = block.width
    lanes = f"<{', '.join(f'i64 {k}' for k in range(width))}>"
    left = block.emit(f"insertelement <{width} x i64> poison, i64 %left, i64 0")
    zeros = f"<{width} x i32> zeroinitializer"
    spread = block.emit(f"shufflevector <{width} x i64> {left}, <{width} x i64> poison, {zeros}")
    return block.emit(f"icmp ult <{width} x i64> {lanes}, {spread}")


def add_up(part: Pass, block: Block, totals: dict[int, str]) -> None:
    """Add the lanes of each sum in order, in float64, and leave the result in the chunk's row.

    Args:
        part: the pass.
        block: where the code goes.
        totals: name of the vector of each sum, by its number in the pass.
    """
    wide = Block("double", block.width, "r", block.declared)
    for index, total in totals.items():
        vector = total
        if block.base == "float":
            vector = wide.emit(f"fpext {block.type} {total} to {wide.type}")
        name = f"@llvm.vector.reduce.fadd.v{block.width}f64"
        block.declared.add(f"declare double {name}(double, {wide.type})")
        number = wide.emit(f"call double {name}(double 0.0, {wide.type} {vector})")
        pointer = wide.emit(f"getelementptr double, ptr %partial, i64 {part.first_sum + index}")
        wide.lines.append(f"store double {number}, ptr {pointer}, align 8")
    block.lines += wide.lines


# Bytes. A processor's own prefetching stops at the end of a 4 KiB page; a pass that only reads, from one or
# two places, then waits for memory (a quarter of its time, on the machine of docs/log.md).
AHEAD = 2048
LINE = 64


def prefetch(block: Block, dtype: Float, pointer: str) -> None:
    """Ask for what a later iteration will load; addresses beyond a tensor's end are harmless."""
    block.declared.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    for at in range(0, max(1, block.width * BYTES[dtype]), LINE):
        ahead = block.emit(f"getelementptr i8, ptr {pointer}, i64 {AHEAD + at}")
        block.lines.append(f"call void @llvm.prefetch.p0(ptr {ahead}, i32 0, i32 3, i32 1)")


def _range(every: int) -> list[str]:
    """The chunk's elements, or the first and end of those every so many-th elements that lie in it."""
    lines = []
    for name, given in (("start", "from"), ("stop", "to")):
        lines.append(f"%{name}.up = add i64 %{given}, {every - 1}")
        lines.append(f"%{name} = udiv i64 %{name}.up, {every}")
    return lines


def print_chunk(program: Program, number: int, width: int, declared: set[str]) -> str:
    """The inner loop of a pass: elements [start, stop) of one tensor."""
    part = program.passes[number]
    base = base_type(program)
    head = Block(base, width, "h", declared)
    numbers = head_of(program, part, head)
    main = Block(base, width, "m", declared)
    added = _update(program, part, main, "%i", "", numbers)
    tail = Block(base, width, "t", declared)
    rest = _update(program, part, tail, "%whole", tail_mask(tail), numbers)
    end = Block(base, width, "e", declared)
    zero = head.number(0.0)
    kind = head.type
    loop_phis, after_phis, done_phis = [], [], []
    for i, (a, b) in enumerate(zip(added, rest, strict=True)):
        main.lines.append(f"%sum{i}.next = fadd {kind} %sum{i}, {a}")
        tail.lines.append(f"%sum{i}.rest = fadd {kind} %sum{i}.after, {b}")
        loop_phis.append(f"%sum{i} = phi {kind} [ {zero}, %entry ], [ %sum{i}.next, %loop ]")
        after_phis.append(f"%sum{i}.after = phi {kind} [ {zero}, %entry ], [ %sum{i}.next, %loop ]")
        done_phis.append(f"%sum{i}.all = phi {kind} [ %sum{i}.after, %after ], [ %sum{i}.rest, %tail ]")
    add_up(part, end, {i: f"%sum{i}.all" for i in range(len(added))})
    return f"""
define internal void @chunk{number}(
    ptr noalias %slots, ptr noalias %scalars, ptr noalias %partial, i64 %from, i64 %to) #0 {{
entry:
{indent(head.lines)}
{indent(_range(part.every))}
  %length = sub i64 %stop, %start
  %left = and i64 %length, {width - 1}
  %whole = sub i64 %stop, %left
  %any = icmp slt i64 %start, %whole
  br i1 %any, label %loop, label %after
loop:
  %i = phi i64 [ %start, %entry ], [ %next, %loop ]
{indent(loop_phis)}
{indent(main.lines)}
  %next = add i64 %i, {width}
  %more = icmp slt i64 %next, %whole
  br i1 %more, label %loop, label %after
after:
{indent(after_phis)}
  %rest = icmp ne i64 %left, 0
  br i1 %rest, label %tail, label %done
tail:
{indent(tail.lines)}
  br label %done
done:
{indent(done_phis)}
{indent(end.lines)}
  ret void
}}"""
