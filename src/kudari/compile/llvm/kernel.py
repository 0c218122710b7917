"""The LLVM printer: a program becomes the text of a fused, threaded CPU kernel.

The kernel has one entry, ``void kudari_step(i64* context, i64 threads)``. For each pass it computes the
tensors' numbers in float64 (the prologue), hands tasks, which are runs of chunks of all tensors together, to
one parallel region, and adds up what the chunks have summed, in the order of the chunks. Vectors are explicit
and every fused multiply-add is written out, so an element's bits do not depend on where it falls: in a vector
or a tail, in one task or another, on one thread or another.
"""

from __future__ import annotations

from kudari.compile.expression import Expr, walk
from kudari.compile.llvm import rows
from kudari.compile.llvm.between import print_between
from kudari.compile.llvm.block import COMPARE, Block
from kudari.compile.llvm.blockwise import print_blocks, touches_codes
from kudari.compile.llvm.chunk import base_type, indent, print_chunk
from kudari.compile.llvm.context import CONTEXT, load_address, load_count
from kudari.compile.program import Program, sum_name

# The one function that others see.
ENTRY = "kudari_step"


def _worker(program: Program) -> str:
    """Take tasks of the pass that is run until none is left; a slow thread takes fewer."""
    base = base_type(program)
    more = rows.ARGUMENTS if program.by_rows else ""
    return f"""
define internal void @worker(ptr %context) #0 {{
entry:
{load_count("tasks")}
{load_address("chunks")}
{load_address("task_ends")}
{load_address("slots")}
{load_address("scalars")}
{load_address("partials")}
{load_address("dims")}
{load_address("column_at")}
{load_address("chunk")}
  %next.p = getelementptr i64, ptr %context, i64 {CONTEXT["next"]}
  br label %take
take:
  %task = atomicrmw add ptr %next.p, i64 1 monotonic
  %mine = icmp slt i64 %task, %tasks
  br i1 %mine, label %begin, label %done
begin:
  %end.p = getelementptr i64, ptr %task_ends, i64 %task
  %end = load i64, ptr %end.p, align 8
  %first = icmp eq i64 %task, 0
  %before.p = getelementptr i64, ptr %end.p, i64 -1
  br i1 %first, label %run, label %look
look:
  %before = load i64, ptr %before.p, align 8
  br label %run
run:
  %c0 = phi i64 [ 0, %begin ], [ %before, %look ]
  br label %chunks.loop
chunks.loop:
  %c = phi i64 [ %c0, %run ], [ %c.next, %chunks.loop ]
  %row = mul i64 %c, 3
  %tensor.p = getelementptr i64, ptr %chunks, i64 %row
  %tensor = load i64, ptr %tensor.p, align 8
  %start.p = getelementptr i64, ptr %tensor.p, i64 1
  %start = load i64, ptr %start.p, align 8
  %stop.p = getelementptr i64, ptr %tensor.p, i64 2
  %stop = load i64, ptr %stop.p, align 8
  %slots.row = mul i64 %tensor, {program.columns}
  %my.slots = getelementptr ptr, ptr %slots, i64 %slots.row
  %scalars.row = mul i64 %tensor, {program.scalars_per_tensor}
  %my.scalars = getelementptr {base}, ptr %scalars, i64 %scalars.row
  %partials.row = mul i64 %c, {len(program.sums)}
  %my.partial = getelementptr double, ptr %partials, i64 %partials.row
{rows.place(program)}
  call void %chunk(ptr %my.slots, ptr %my.scalars, ptr %my.partial, i64 %start, i64 %stop{more})
  %c.next = add i64 %c, 1
  %again = icmp slt i64 %c.next, %end
  br i1 %again, label %chunks.loop, label %take
done:
  ret void
}}"""


def _combine(sums: int) -> str:
    """Add up what the chunks of each tensor have summed, in their order: the same bits for any threads.

    Sums of rows and columns, which lie elsewhere, are zeros here.
    """
    return f"""
define internal void @combine(ptr %context, i64 %first, i64 %last) #0 {{
entry:
{load_count("tensors")}
{load_count("chunk_count")}
{load_address("chunks")}
{load_address("partials")}
{load_address("sums")}
  %some = icmp sgt i64 %tensors, 0
  br i1 %some, label %clear, label %done
clear:
  %k = phi i64 [ 0, %entry ], [ %k.next, %cleared ]
  %zero.offset = mul i64 %k, {sums}
  %zero.row = getelementptr double, ptr %sums, i64 %zero.offset
  br label %zero
zero:
  %z = phi i64 [ %first, %clear ], [ %z.next, %zero ]
  %zero.p = getelementptr double, ptr %zero.row, i64 %z
  store double 0.0, ptr %zero.p, align 8
  %z.next = add i64 %z, 1
  %z.more = icmp sle i64 %z.next, %last
  br i1 %z.more, label %zero, label %cleared
cleared:
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %tensors
  br i1 %more, label %clear, label %ready
ready:
  %any = icmp sgt i64 %chunk_count, 0
  br i1 %any, label %chunk, label %done
chunk:
  %c = phi i64 [ 0, %ready ], [ %c.next, %added ]
  %row = mul i64 %c, 3
  %tensor.p = getelementptr i64, ptr %chunks, i64 %row
  %tensor = load i64, ptr %tensor.p, align 8
  %from.offset = mul i64 %c, {sums}
  %from = getelementptr double, ptr %partials, i64 %from.offset
  %to.offset = mul i64 %tensor, {sums}
  %to = getelementptr double, ptr %sums, i64 %to.offset
  br label %add
add:
  %i = phi i64 [ %first, %chunk ], [ %i.next, %add ]
  %from.p = getelementptr double, ptr %from, i64 %i
  %to.p = getelementptr double, ptr %to, i64 %i
  %more.sum = load double, ptr %from.p, align 8
  %sum = load double, ptr %to.p, align 8
  %new = fadd double %more.sum, %sum
  store double %new, ptr %to.p, align 8
  %i.next = add i64 %i, 1
  %i.more = icmp sle i64 %i.next, %last
  br i1 %i.more, label %add, label %added
added:
  %c.next = add i64 %c, 1
  %left = icmp slt i64 %c.next, %chunk_count
  br i1 %left, label %chunk, label %done
done:
  ret void
}}"""


def _cell(program: Program, index: int, block: Block) -> str:
    """Where a tensor's number is kept from step to step."""
    row = block.emit(f"mul i64 %k, {len(program.cells)}")
    place = block.emit(f"add i64 {row}, {index}")
    pointer = block.emit(f"getelementptr ptr, ptr %cells, i64 {place}")
    return block.emit(f"load ptr, ptr {pointer}, align 8")


def _numbers(program: Program, number: int, block: Block) -> None:
    """Compute a tensor's numbers for a pass and store them in its row."""
    part = program.passes[number]
    base = base_type(program)
    known: dict[Expr, str] = {}
    new_cells = program.cells if number == len(program.passes) - 1 else ()
    roots = (*part.scalars, *(e for _, e in new_cells))
    inputs = {e.name: e for e in walk(roots) if e.op == "hyper"}
    cell_pointers = {name: _cell(program, index, block) for index, (name, _) in enumerate(program.cells)}
    for name, pointer in cell_pointers.items():
        if name in inputs:
            known[inputs[name]] = block.emit(f"load double, ptr {pointer}, align 8")
    for index, name in enumerate(program.hypers):
        if name in inputs and name != "t":
            pointer = block.emit(f"getelementptr double, ptr %hypers, i64 {index}")
            known[inputs[name]] = block.emit(f"load double, ptr {pointer}, align 8")
    for index in range(len(program.sums)):
        if sum_name(index) in inputs:
            pointer = block.emit(f"getelementptr double, ptr %sums.row, i64 {index}")
            known[inputs[sum_name(index)]] = block.emit(f"load double, ptr {pointer}, align 8")
    if "numel" in inputs:
        pointer = block.emit("getelementptr double, ptr %sizes, i64 %k")
        known[inputs["numel"]] = block.emit(f"load double, ptr {pointer}, align 8")
    for index, name in ((1, "rows"), (2, "columns")):
        if name in inputs:
            pointer = block.emit(f"getelementptr i64, ptr %dims.row, i64 {index}")
            count = block.emit(f"load i64, ptr {pointer}, align 8")
            known[inputs[name]] = block.emit(f"sitofp i64 {count} to double")
    if "t" in inputs:
        known[inputs["t"]] = "%t"
    values = block.compute(roots, known)
    for name, expr in new_cells:
        block.lines.append(f"store double {values[expr]}, ptr {cell_pointers[name]}, align 8")
    for index, item in enumerate(part.scalars):
        name = values[item]
        if item.op in COMPARE:
            name = block.emit(f"uitofp i1 {name} to double")
        if base == "float":
            name = block.emit(f"fptrunc double {name} to float")
        pointer = block.emit(f"getelementptr {base}, ptr %row, i64 {index}")
        block.lines.append(f"store {base} {name}, ptr {pointer}, align 4")


def _count(program: Program, number: int) -> str:
    """Read a tensor's step count; the first pass adds one to it, unless that has been done."""
    adds = number == 0 and program.counts
    if "t" not in program.hypers:
        return "  %t = fadd double 0.0, 1.0"
    lines = [
        "%counter.p = getelementptr ptr, ptr %counters, i64 %k",
        "%counter = load ptr, ptr %counter.p, align 8",
        "%old = load float, ptr %counter, align 4",
    ]
    if adds:
        lines += ["%new = fadd float %old, 1.0", "store float %new, ptr %counter, align 4"]
    return indent([*lines, f"%t = fpext float %{'new' if adds else 'old'} to double"])


def _prologue(program: Program, number: int, declared: set[str]) -> str:
    """Every tensor's numbers for a pass, in float64; tensors with equal counts share the work if they can."""
    part = program.passes[number]
    base = base_type(program)
    block = Block("double", 0, "d", declared)
    _numbers(program, number, block)
    row = program.scalars_per_tensor
    own = {e.name for e in walk(part.scalars) if e.op == "hyper"} - {*program.hypers}
    size = len(part.scalars) * (8 if base == "double" else 4)
    declared.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    shared = (
        "false" if own or program.cells else "%same.t"
    )  # numbers of the tensor itself cannot be another's
    return f"""
define internal void @prologue{number}(ptr %context) #0 {{
entry:
{load_count("tensors")}
{load_address("scalars")}
{load_address("hypers")}
{load_address("counters")}
{load_address("sums")}
{load_address("sizes")}
{load_address("cells")}
{load_address("dims")}
  %some = icmp sgt i64 %tensors, 0
  br i1 %some, label %each, label %done
each:
  %k = phi i64 [ 0, %entry ], [ %k.next, %advance ]
  %before = phi double [ 0.0, %entry ], [ %t, %advance ]
  %offset = mul i64 %k, {row}
  %row = getelementptr {base}, ptr %scalars, i64 %offset
  %sums.offset = mul i64 %k, {len(program.sums)}
  %sums.row = getelementptr double, ptr %sums, i64 %sums.offset
  %dims.offset = mul i64 %k, 3
  %dims.row = getelementptr i64, ptr %dims, i64 %dims.offset
{_count(program, number)}
  %same.t = fcmp oeq double %t, %before
  br i1 {shared}, label %copy, label %compute
copy:
  %row.before = getelementptr {base}, ptr %row, i64 -{row}
  call void @llvm.memcpy.p0.p0.i64(ptr %row, ptr %row.before, i64 {size}, i1 false)
  br label %advance
compute:
{indent(block.lines)}
  br label %advance
advance:
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %tensors
  br i1 %more, label %each, label %done
done:
  ret void
}}"""


def _stage(program: Program, number: int) -> str:
    """One pass of the entry: skip it if it is not asked for, else prologue, chunks, sums."""
    part = program.passes[number]
    last = part.first_sum + len(part.sums) - 1
    combine = f"  call void @combine(ptr %context, i64 {part.first_sum}, i64 {last})\n" if part.sums else ""
    if any(s.scope == "column" for s in part.sums):
        combine += f"  call void @fold{number}(ptr %context)\n"
    vectors = f"  call void @vectors{number}(ptr %context)\n" if part.vectors else ""
    return f"""pass{number}:
  %late{number} = icmp sle i64 %first_pass, {number}
  %early{number} = icmp sgt i64 %end_pass, {number}
  %asked{number} = and i1 %late{number}, %early{number}
  br i1 %asked{number}, label %go{number}, label %pass{number + 1}
go{number}:
  call void @prologue{number}(ptr %context)
{vectors}  store i64 0, ptr %next.p, align 8
  store ptr @chunk{number}, ptr %chunk.p, align 8
  br i1 %many, label %fork{number}, label %alone{number}
alone{number}:
  call void @worker(ptr %context)
  br label %summed{number}
fork{number}:
  call void %fork(ptr @worker, ptr %context, i32 %count, i32 0)
  br label %summed{number}
summed{number}:
{combine}  br label %pass{number + 1}"""


def print_llvm(program: Program, width: int) -> str:
    """Print the kernel as LLVM IR text.

    Args:
        program: what to do to each element.
        width: elements in a vector, a power of two.
    """
    declared: set[str] = set()
    functions = [_worker(program)]
    if program.sums:
        functions.append(_combine(len(program.sums)))
    for number, part in enumerate(program.passes):
        chunk = print_blocks if touches_codes(program, part) else print_chunk
        chunk = rows.print_chunk if program.by_rows else chunk
        functions.append(chunk(program, number, width, declared))
        functions += print_between(program, number, width, declared)
        functions += [_prologue(program, number, declared)]
    stages = "\n".join(_stage(program, number) for number in range(len(program.passes)))
    entry = f"""
define void @{ENTRY}(ptr %context, i64 %threads) #0 {{
entry:
{load_count("first_pass")}
{load_count("end_pass")}
{load_address("fork")}
  %next.p = getelementptr i64, ptr %context, i64 {CONTEXT["next"]}
  %chunk.p = getelementptr ptr, ptr %context, i64 {CONTEXT["chunk"]}
  %many = icmp sgt i64 %threads, 1
  %count = trunc i64 %threads to i32
  br label %pass0
{stages}
pass{len(program.passes)}:
  ret void
}}
"""
    attributes = 'attributes #0 = {{ nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }}'
    return "\n".join([f"; {program.name}", *sorted(declared), *functions, entry, attributes.format()])
