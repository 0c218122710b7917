"""The LLVM printer: a program becomes the text of a fused, threaded CPU kernel.

The kernel has one entry, ``void kudari_step(i64* context, i64 threads)``. For each pass it computes the
tensors' numbers in float64 (the prologue), hands tasks, which are runs of chunks of all tensors together, to
one parallel region, and adds up what the chunks have summed, in the order of the chunks. Vectors are explicit
and every fused multiply-add is written out, so an element's bits do not depend on where it falls: in a vector
or a tail, in one task or another, on one thread or another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kudari.compile.expression import Expr, walk
from kudari.compile.program import BYTES, Float, Pass, Program, sum_name

# Fields of the context, in units of 8 bytes; pointers and counts. `next` has a cache line of its own.
CONTEXT = {
    "tensors": 0,  # number of tensors
    "tasks": 1,  # number of tasks
    "chunks": 2,  # i64[chunk_count][3]: tensor, first element, end
    "task_ends": 3,  # i64[tasks]: end of each task's run of chunks
    "slots": 4,  # i64[tensors][slots]: addresses
    "scalars": 5,  # compute[tensors][scalars_per_tensor]
    "hypers": 6,  # double[hypers], t left out
    "counters": 7,  # i64[tensors]: address of each tensor's float32 step count
    "fork": 8,  # address of GOMP_parallel, or of something with its signature
    "chunk_count": 9,
    "partials": 10,  # double[chunk_count][sums]: what each chunk has summed
    "sums": 11,  # double[tensors][sums]
    "sizes": 12,  # double[tensors]: number of elements
    "first_pass": 13,
    "end_pass": 14,  # passes first_pass <= k < end_pass are run
    "next": 16,  # the next task to take
}
CONTEXT_WORDS = 24

_LLVM = {"f64": "double", "f32": "float", "bf16": "i16", "f16": "half"}
_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_CALLS = {
    "sqrt": "sqrt", "abs": "fabs", "exp": "exp", "log": "log", "sin": "sin", "cos": "cos", "floor": "floor",
    "pow": "pow", "fma": "fma", "min": "minimum", "max": "maximum",
}  # fmt: skip
_COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


class Block:
    """Straight-line code on one type: a vector of floats, or one double.

    Args:
        base: ``double`` or ``float``.
        width: elements in a vector; 0 for a plain number.
        prefix: keeps the names of several blocks in one function apart.
        declared: collects the intrinsics that are used.
    """

    def __init__(self, base: str, width: int, prefix: str, declared: set[str]) -> None:
        self.base, self.width, self.prefix, self.declared = base, width, prefix, declared
        self.type = f"<{width} x {base}>" if width else base
        self.mask = f"<{width} x i1>" if width else "i1"
        self.lines: list[str] = []
        self._count = 0

    def vector(self, element: str) -> str:
        """The type with as many elements of another kind."""
        return f"<{self.width} x {element}>" if self.width else element

    def emit(self, text: str) -> str:
        """Append an instruction with a result; returns the result's name."""
        name = f"%{self.prefix}{self._count}"
        self._count += 1
        self.lines.append(f"{name} = {text}")
        return name

    def number(self, value: float) -> str:
        """A constant, rounded to the type and splat over the vector."""
        rounded = struct.unpack("f", struct.pack("f", value))[0] if self.base == "float" else value
        text = f"0x{struct.unpack('Q', struct.pack('d', rounded))[0]:016X}"
        return f"<{', '.join([f'{self.base} {text}'] * self.width)}>" if self.width else text

    def splat(self, scalar: str) -> str:
        """A vector with one number in every element."""
        if not self.width:
            return scalar
        one = self.emit(f"insertelement {self.type} poison, {self.base} {scalar}, i64 0")
        zeros = f"<{self.width} x i32> zeroinitializer"
        return self.emit(f"shufflevector {self.type} {one}, {self.type} poison, {zeros}")

    def call(self, function: str, arguments: Iterable[str]) -> str:
        """Call an LLVM intrinsic on arguments of the block's type."""
        arguments = list(arguments)
        suffix = (
            ("f64" if self.base == "double" else "f32")
            if not self.width
            else (f"v{self.width}f{'64' if self.base == 'double' else '32'}")
        )
        name = f"@llvm.{function}.{suffix}"
        self.declared.add(f"declare {self.type} {name}({', '.join([self.type] * len(arguments))})")
        return self.emit(f"call {self.type} {name}({', '.join(f'{self.type} {a}' for a in arguments)})")

    def compute(self, roots: Iterable[Expr], known: dict[Expr, str]) -> dict[Expr, str]:
        """Emit everything the roots need; ``known`` has the inputs' names."""
        values = dict(known)
        for item in walk(roots):
            if item not in values:
                values[item] = self._apply(item, [values[a] for a in item.args])
        return values

    def _apply(self, item: Expr, args: list[str]) -> str:
        kind = self.type
        if item.op == "const":
            return self.number(item.value)
        if item.op in _BINARY:
            return self.emit(f"{_BINARY[item.op]} {kind} {args[0]}, {args[1]}")
        if item.op == "neg":
            return self.emit(f"fneg {kind} {args[0]}")
        if item.op in _CALLS:
            return self.call(_CALLS[item.op], args)
        if item.op in _COMPARE:
            return self.emit(f"fcmp {_COMPARE[item.op]} {kind} {args[0]}, {args[1]}")
        if item.op == "where":
            condition = args[0]
            if item.args[0].op not in _COMPARE:  # a number from the host: 0 or 1
                condition = self.emit(f"fcmp une {kind} {condition}, {self.number(0.0)}")
            return self.emit(f"select {self.mask} {condition}, {kind} {args[1]}, {kind} {args[2]}")
        if item.op == "sign":
            return self._sign(args[0])
        from kudari.errors import CompileError

        raise CompileError(f"The CPU printer has no {item.op!r}.", fix="Use the eager backend for this rule.")

    def _sign(self, x: str) -> str:
        """-1 or 1 by comparison, x itself where it is zero or NaN."""
        kind, zero = self.type, self.number(0.0)
        below = self.emit(f"fcmp olt {kind} {x}, {zero}")
        above = self.emit(f"fcmp ogt {kind} {x}, {zero}")
        part = self.emit(f"select {self.mask} {below}, {kind} {self.number(-1.0)}, {kind} {x}")
        return self.emit(f"select {self.mask} {above}, {kind} {self.number(1.0)}, {kind} {part}")

    def load(self, dtype: Float, pointer: str, mask: str = "") -> str:
        """Load a vector and widen it to the type of the arithmetic."""
        stored, align = self.vector(_LLVM[dtype]), BYTES[dtype]
        if mask:
            bits = 8 * align
            name = f"@llvm.masked.load.v{self.width}{'i16' if dtype == 'bf16' else f'f{bits}'}.p0"
            self.declared.add(f"declare {stored} {name}(ptr, i32, {self.mask}, {stored})")
            raw = self.emit(
                f"call {stored} {name}(ptr {pointer}, i32 {align}, {self.mask} {mask}, "
                f"{stored} zeroinitializer)"
            )
        else:
            raw = self.emit(f"load {stored}, ptr {pointer}, align {align}")
        if _LLVM[dtype] == self.base:
            return raw
        if dtype == "bf16":
            wide = self.emit(f"zext {stored} {raw} to {self.vector('i32')}")
            high = self.emit(f"shl {self.vector('i32')} {wide}, {self._integers(16)}")
            return self.emit(f"bitcast {self.vector('i32')} {high} to {self.type}")
        return self.emit(f"fpext {stored} {raw} to {self.type}")

    def store(self, dtype: Float, value: str, pointer: str, mask: str = "") -> None:
        """Round to the storage type, to nearest even, and store."""
        stored, align = self.vector(_LLVM[dtype]), BYTES[dtype]
        if dtype == "bf16":
            value = self._round_bf16(value)
        elif _LLVM[dtype] != self.base:
            value = self.emit(f"fptrunc {self.type} {value} to {stored}")
        if mask:
            name = f"@llvm.masked.store.v{self.width}{'i16' if dtype == 'bf16' else f'f{8 * align}'}.p0"
            self.declared.add(f"declare void {name}({stored}, ptr, i32, {self.mask})")
            self.lines.append(
                f"call void {name}({stored} {value}, ptr {pointer}, i32 {align}, {self.mask} {mask})"
            )
        else:
            self.lines.append(f"store {stored} {value}, ptr {pointer}, align {align}")

    def _integers(self, value: int) -> str:
        return f"<{', '.join([f'i32 {value}'] * self.width)}>" if self.width else str(value)

    def _round_bf16(self, value: str) -> str:
        whole = self.vector("i32")
        bits = self.emit(f"bitcast {self.type} {value} to {whole}")
        high = self.emit(f"lshr {whole} {bits}, {self._integers(16)}")
        odd = self.emit(f"and {whole} {high}, {self._integers(1)}")
        bump = self.emit(f"add {whole} {odd}, {self._integers(0x7FFF)}")
        rounded = self.emit(f"add {whole} {bits}, {bump}")
        quiet = self.emit(f"or {whole} {bits}, {self._integers(0x400000)}")
        nan = self.emit(f"fcmp uno {self.type} {value}, {value}")
        chosen = self.emit(f"select {self.mask} {nan}, {whole} {quiet}, {whole} {rounded}")
        top = self.emit(f"lshr {whole} {chosen}, {self._integers(16)}")
        return self.emit(f"trunc {whole} {top} to {self.vector('i16')}")


def _indent(lines: Iterable[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)


def _load_slots(program: Program, part: Pass, block: Block, offset: str, mask: str) -> dict[Expr, str]:
    """Load every slot the pass reads at an element offset."""
    found: dict[Expr, str] = {}
    for item in walk(part.roots):
        if item.op == "slot":
            index = next(i for i, s in enumerate(program.slots) if s.name == item.name)
            dtype = program.slots[index].dtype
            pointer = block.emit(f"getelementptr {_LLVM[dtype]}, ptr %slot{index}, i64 {offset}")
            found[item] = block.load(dtype, pointer, mask)
    return found


def _update(
    program: Program, part: Pass, block: Block, offset: str, mask: str, numbers: dict[Expr, str]
) -> list[str]:
    """Load, compute and store one vector of every slot; returns the names of the vectors to be summed."""
    values = block.compute(part.roots, numbers | _load_slots(program, part, block, offset, mask))
    new = dict(part.outputs)
    for index, slot in enumerate(program.slots):
        if slot.name in new:
            pointer = block.emit(f"getelementptr {_LLVM[slot.dtype]}, ptr %slot{index}, i64 {offset}")
            block.store(slot.dtype, values[new[slot.name]], pointer, mask)
    found = [values[s.expr] for s in part.sums]
    if mask:  # lanes beyond the end add nothing, whatever the formula makes of zeros
        zero = block.number(0.0)
        found = [
            block.emit(f"select {block.mask} {mask}, {block.type} {x}, {block.type} {zero}") for x in found
        ]
    return found


def _head(program: Program, part: Pass, block: Block) -> dict[Expr, str]:
    """Addresses of the slots, and the tensor's numbers spread over vectors."""
    for i in range(len(program.slots)):
        block.lines.append(f"%slotp{i} = getelementptr ptr, ptr %slots, i64 {i}")
        block.lines.append(f"%slot{i} = load ptr, ptr %slotp{i}, align 8")
    numbers: dict[Expr, str] = {}
    used = {item.name: item for item in walk(part.roots) if item.op == "hyper"}
    for i in range(len(part.scalars)):
        if f"s{i}" in used:
            pointer = block.emit(f"getelementptr {block.base}, ptr %scalars, i64 {i}")
            number = block.emit(f"load {block.base}, ptr {pointer}, align 4")
            numbers[used[f"s{i}"]] = block.splat(number)
    return numbers


def _tail_mask(block: Block) -> str:
    """Which lanes of the last vector hold elements."""
    width = block.width
    lanes = f"<{', '.join(f'i64 {k}' for k in range(width))}>"
    left = block.emit(f"insertelement <{width} x i64> poison, i64 %left, i64 0")
    zeros = f"<{width} x i32> zeroinitializer"
    spread = block.emit(f"shufflevector <{width} x i64> {left}, <{width} x i64> poison, {zeros}")
    return block.emit(f"icmp ult <{width} x i64> {lanes}, {spread}")


def _add_up(program: Program, part: Pass, block: Block, totals: list[str]) -> None:
    """Add the lanes of each sum in order, in float64, and leave the result in the chunk's row."""
    wide = Block("double", block.width, "r", block.declared)
    for index, total in enumerate(totals):
        vector = total
        if block.base == "float":
            vector = wide.emit(f"fpext {block.type} {total} to {wide.type}")
        name = f"@llvm.vector.reduce.fadd.v{block.width}f64"
        block.declared.add(f"declare double {name}(double, {wide.type})")
        number = wide.emit(f"call double {name}(double 0.0, {wide.type} {vector})")
        pointer = wide.emit(f"getelementptr double, ptr %partial, i64 {part.first_sum + index}")
        wide.lines.append(f"store double {number}, ptr {pointer}, align 8")
    block.lines += wide.lines


def _chunk(program: Program, number: int, width: int, declared: set[str]) -> str:
    """The inner loop of a pass: elements [start, stop) of one tensor."""
    part = program.passes[number]
    base = "double" if program.compute == "f64" else "float"
    head = Block(base, width, "h", declared)
    numbers = _head(program, part, head)
    main = Block(base, width, "m", declared)
    added = _update(program, part, main, "%i", "", numbers)
    tail = Block(base, width, "t", declared)
    rest = _update(program, part, tail, "%whole", _tail_mask(tail), numbers)
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
    _add_up(program, part, end, [f"%sum{i}.all" for i in range(len(added))])
    return f"""
define internal void @chunk{number}(
    ptr noalias %slots, ptr noalias %scalars, ptr noalias %partial, i64 %start, i64 %stop) #0 {{
entry:
{_indent(head.lines)}
  %length = sub i64 %stop, %start
  %left = and i64 %length, {width - 1}
  %whole = sub i64 %stop, %left
  %any = icmp slt i64 %start, %whole
  br i1 %any, label %loop, label %after
loop:
  %i = phi i64 [ %start, %entry ], [ %next, %loop ]
{_indent(loop_phis)}
{_indent(main.lines)}
  %next = add i64 %i, {width}
  %more = icmp slt i64 %next, %whole
  br i1 %more, label %loop, label %after
after:
{_indent(after_phis)}
  %rest = icmp ne i64 %left, 0
  br i1 %rest, label %tail, label %done
tail:
{_indent(tail.lines)}
  br label %done
done:
{_indent(done_phis)}
{_indent(end.lines)}
  ret void
}}"""


def _field(name: str) -> str:
    """Load a count from the context."""
    return (
        f"  %{name}.p = getelementptr i64, ptr %context, i64 {CONTEXT[name]}\n"
        f"  %{name} = load i64, ptr %{name}.p, align 8"
    )


def _pointer(name: str) -> str:
    """Load an address from the context."""
    return _field(name).replace(f"load i64, ptr %{name}.p", f"load ptr, ptr %{name}.p")


def _worker(program: Program, number: int) -> str:
    """Take tasks until none is left; a slow thread takes fewer."""
    base = "double" if program.compute == "f64" else "float"
    return f"""
define internal void @worker{number}(ptr %context) #0 {{
entry:
{_field("tasks")}
{_pointer("chunks")}
{_pointer("task_ends")}
{_pointer("slots")}
{_pointer("scalars")}
{_pointer("partials")}
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
  %slots.row = mul i64 %tensor, {len(program.slots)}
  %my.slots = getelementptr ptr, ptr %slots, i64 %slots.row
  %scalars.row = mul i64 %tensor, {program.scalars_per_tensor}
  %my.scalars = getelementptr {base}, ptr %scalars, i64 %scalars.row
  %partials.row = mul i64 %c, {len(program.sums)}
  %my.partial = getelementptr double, ptr %partials, i64 %partials.row
  call void @chunk{number}(ptr %my.slots, ptr %my.scalars, ptr %my.partial, i64 %start, i64 %stop)
  %c.next = add i64 %c, 1
  %again = icmp slt i64 %c.next, %end
  br i1 %again, label %chunks.loop, label %take
done:
  ret void
}}"""


def _combine(program: Program, number: int) -> str:
    """Add up the chunks of each tensor, in their order: the same bits for any number of threads."""
    part, sums = program.passes[number], len(program.sums)
    clear, add = [], []
    for i in range(part.first_sum, part.first_sum + len(part.sums)):
        clear += [f"%z{i} = getelementptr double, ptr %zero.row, i64 {i}", f"store double 0.0, ptr %z{i}"]
        add += [
            f"%a{i} = getelementptr double, ptr %from, i64 {i}",
            f"%b{i} = getelementptr double, ptr %to, i64 {i}",
            f"%x{i} = load double, ptr %a{i}",
            f"%y{i} = load double, ptr %b{i}",
            f"%s{i} = fadd double %x{i}, %y{i}",
            f"store double %s{i}, ptr %b{i}",
        ]
    return f"""
define internal void @combine{number}(ptr %context) #0 {{
entry:
{_field("tensors")}
{_field("chunk_count")}
{_pointer("chunks")}
{_pointer("partials")}
{_pointer("sums")}
  %some = icmp sgt i64 %tensors, 0
  br i1 %some, label %clear, label %done
clear:
  %k = phi i64 [ 0, %entry ], [ %k.next, %clear ]
  %zero.offset = mul i64 %k, {sums}
  %zero.row = getelementptr double, ptr %sums, i64 %zero.offset
{_indent(clear)}
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %tensors
  br i1 %more, label %clear, label %ready
ready:
  %any = icmp sgt i64 %chunk_count, 0
  br i1 %any, label %add, label %done
add:
  %c = phi i64 [ 0, %ready ], [ %c.next, %add ]
  %row = mul i64 %c, 3
  %tensor.p = getelementptr i64, ptr %chunks, i64 %row
  %tensor = load i64, ptr %tensor.p, align 8
  %from.offset = mul i64 %c, {sums}
  %from = getelementptr double, ptr %partials, i64 %from.offset
  %to.offset = mul i64 %tensor, {sums}
  %to = getelementptr double, ptr %sums, i64 %to.offset
{_indent(add)}
  %c.next = add i64 %c, 1
  %left = icmp slt i64 %c.next, %chunk_count
  br i1 %left, label %add, label %done
done:
  ret void
}}"""


def _numbers(program: Program, number: int, block: Block) -> None:
    """Compute a tensor's numbers for a pass and store them in its row."""
    part = program.passes[number]
    base = "double" if program.compute == "f64" else "float"
    known: dict[Expr, str] = {}
    inputs = {e.name: e for e in walk(part.scalars) if e.op == "hyper"}
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
    if "t" in inputs:
        known[inputs["t"]] = "%t"
    values = block.compute(part.scalars, known)
    for index, item in enumerate(part.scalars):
        name = values[item]
        if item.op in _COMPARE:
            name = block.emit(f"uitofp i1 {name} to double")
        if base == "float":
            name = block.emit(f"fptrunc double {name} to float")
        pointer = block.emit(f"getelementptr {base}, ptr %row, i64 {index}")
        block.lines.append(f"store {base} {name}, ptr {pointer}, align 4")


def _count(program: Program, number: int) -> str:
    """Read a tensor's step count; the first pass adds one to it."""
    if "t" not in program.hypers:
        return "  %t = fadd double 0.0, 1.0"
    lines = [
        "%counter.p = getelementptr ptr, ptr %counters, i64 %k",
        "%counter = load ptr, ptr %counter.p, align 8",
        "%old = load float, ptr %counter, align 4",
    ]
    if number == 0:
        lines += ["%new = fadd float %old, 1.0", "store float %new, ptr %counter, align 4"]
    return _indent([*lines, f"%t = fpext float %{'new' if number == 0 else 'old'} to double"])


def _prologue(program: Program, number: int, declared: set[str]) -> str:
    """Every tensor's numbers for a pass, in float64; tensors with equal counts share the work if they can."""
    part = program.passes[number]
    base = "double" if program.compute == "f64" else "float"
    block = Block("double", 0, "d", declared)
    _numbers(program, number, block)
    row = program.scalars_per_tensor
    own = {e.name for e in walk(part.scalars) if e.op == "hyper"} - {*program.hypers}
    size = len(part.scalars) * (8 if base == "double" else 4)
    declared.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    shared = "%same.t" if not own else "false"  # numbers of the tensor itself cannot be another's
    return f"""
define internal void @prologue{number}(ptr %context) #0 {{
entry:
{_field("tensors")}
{_pointer("scalars")}
{_pointer("hypers")}
{_pointer("counters")}
{_pointer("sums")}
{_pointer("sizes")}
  %some = icmp sgt i64 %tensors, 0
  br i1 %some, label %each, label %done
each:
  %k = phi i64 [ 0, %entry ], [ %k.next, %advance ]
  %before = phi double [ 0.0, %entry ], [ %t, %advance ]
  %offset = mul i64 %k, {row}
  %row = getelementptr {base}, ptr %scalars, i64 %offset
  %sums.offset = mul i64 %k, {len(program.sums)}
  %sums.row = getelementptr double, ptr %sums, i64 %sums.offset
{_count(program, number)}
  %same.t = fcmp oeq double %t, %before
  br i1 {shared}, label %copy, label %compute
copy:
  %row.before = getelementptr {base}, ptr %row, i64 -{row}
  call void @llvm.memcpy.p0.p0.i64(ptr %row, ptr %row.before, i64 {size}, i1 false)
  br label %advance
compute:
{_indent(block.lines)}
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
    combine = f"  call void @combine{number}(ptr %context)\n" if program.passes[number].sums else ""
    return f"""pass{number}:
  %late{number} = icmp sle i64 %first_pass, {number}
  %early{number} = icmp sgt i64 %end_pass, {number}
  %asked{number} = and i1 %late{number}, %early{number}
  br i1 %asked{number}, label %go{number}, label %pass{number + 1}
go{number}:
  call void @prologue{number}(ptr %context)
  store i64 0, ptr %next.p, align 8
  br i1 %many, label %fork{number}, label %alone{number}
alone{number}:
  call void @worker{number}(ptr %context)
  br label %summed{number}
fork{number}:
  call void %fork(ptr @worker{number}, ptr %context, i32 %count, i32 0)
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
    functions: list[str] = []
    for number, part in enumerate(program.passes):
        functions += [_chunk(program, number, width, declared), _worker(program, number)]
        functions += [_prologue(program, number, declared)]
        functions += [_combine(program, number)] if part.sums else []
    stages = "\n".join(_stage(program, number) for number in range(len(program.passes)))
    entry = f"""
define void @kudari_step(ptr %context, i64 %threads) #0 {{
entry:
{_field("first_pass")}
{_field("end_pass")}
{_pointer("fork")}
  %next.p = getelementptr i64, ptr %context, i64 {CONTEXT["next"]}
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
