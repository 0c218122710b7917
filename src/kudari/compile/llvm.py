"""The LLVM printer: a program becomes the text of a fused, threaded CPU kernel.

The kernel has one entry, ``void kudari_step(i64* context, i64 threads)``. It computes each tensor's numbers
in float64 (the prologue), then hands tasks, which are runs of chunks of all tensors together, to one parallel
region. Vectors are explicit and every fused multiply-add is written out, so an element's bits do not depend
on where it falls: in a vector or a tail, in one chunk or another, on one thread or another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kudari.compile.expression import Expr, walk
from kudari.compile.program import BYTES, Float, Program

# Fields of the context, in units of 8 bytes; pointers and counts. `next` has a cache line of its own.
CONTEXT = {
    "tensors": 0,  # number of tensors
    "tasks": 1,  # number of tasks
    "chunks": 2,  # i64[n][3]: tensor, first element, end
    "task_ends": 3,  # i64[tasks]: end of each task's run of chunks
    "slots": 4,  # i64[tensors][slots]: addresses
    "scalars": 5,  # compute[tensors][scalars]
    "hypers": 6,  # double[hypers], t left out
    "counters": 7,  # i64[tensors]: address of each tensor's float32 step count
    "fork": 8,  # address of GOMP_parallel, or of something with its signature
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


def _inputs(program: Program, block: Block, offset: str, mask: str) -> dict[Expr, str]:
    """Load every slot the program reads at an element offset."""
    found: dict[Expr, str] = {}
    for item in walk(e for _, e in program.outputs):
        if item.op == "slot":
            index = next(i for i, s in enumerate(program.slots) if s.name == item.name)
            dtype = program.slots[index].dtype
            pointer = block.emit(f"getelementptr {_LLVM[dtype]}, ptr %slot{index}, i64 {offset}")
            found[item] = block.load(dtype, pointer, mask)
    return found


def _update(program: Program, block: Block, offset: str, mask: str, numbers: dict[Expr, str]) -> None:
    """Load, compute, store one vector of every slot."""
    roots = [e for _, e in program.outputs]
    values = block.compute(roots, numbers | _inputs(program, block, offset, mask))
    for index, slot in enumerate(program.slots):
        if slot.writes:
            result = values[next(e for name, e in program.outputs if name == slot.name)]
            pointer = block.emit(f"getelementptr {_LLVM[slot.dtype]}, ptr %slot{index}, i64 {offset}")
            block.store(slot.dtype, result, pointer, mask)


def _chunk(program: Program, width: int, declared: set[str]) -> str:
    """The inner loop: elements [start, stop) of one tensor."""
    base = "double" if program.compute == "f64" else "float"
    head = Block(base, width, "h", declared)
    for i in range(len(program.slots)):
        head.lines.append(f"%slotp{i} = getelementptr ptr, ptr %slots, i64 {i}")
        head.lines.append(f"%slot{i} = load ptr, ptr %slotp{i}, align 8")
    numbers: dict[Expr, str] = {}
    used = {item.name: item for item in walk(e for _, e in program.outputs) if item.op == "hyper"}
    for i in range(len(program.scalars)):
        if f"s{i}" in used:
            pointer = head.emit(f"getelementptr {base}, ptr %scalars, i64 {i}")
            numbers[used[f"s{i}"]] = head.splat(head.emit(f"load {base}, ptr {pointer}, align 4"))
    main = Block(base, width, "m", declared)
    _update(program, main, "%i", "", numbers)
    tail = Block(base, width, "t", declared)
    index_type = f"<{width} x i64>"
    lanes = f"<{', '.join(f'i64 {k}' for k in range(width))}>"
    left = tail.emit(f"insertelement {index_type} poison, i64 %left, i64 0")
    zeros = f"<{width} x i32> zeroinitializer"
    spread = tail.emit(f"shufflevector {index_type} {left}, {index_type} poison, {zeros}")
    mask = tail.emit(f"icmp ult {index_type} {lanes}, {spread}")
    _update(program, tail, "%whole", mask, numbers)
    return f"""
define internal void @chunk(ptr noalias %slots, ptr noalias %scalars, i64 %start, i64 %stop) #0 {{
entry:
{_indent(head.lines)}
  %length = sub i64 %stop, %start
  %left = and i64 %length, {width - 1}
  %whole = sub i64 %stop, %left
  %any = icmp slt i64 %start, %whole
  br i1 %any, label %loop, label %after
loop:
  %i = phi i64 [ %start, %entry ], [ %next, %loop ]
{_indent(main.lines)}
  %next = add i64 %i, {width}
  %more = icmp slt i64 %next, %whole
  br i1 %more, label %loop, label %after
after:
  %rest = icmp ne i64 %left, 0
  br i1 %rest, label %tail, label %done
tail:
{_indent(tail.lines)}
  br label %done
done:
  ret void
}}"""


def _field(name: str) -> str:
    """Load a field of the context."""
    return (
        f"  %{name}.p = getelementptr i64, ptr %context, i64 {CONTEXT[name]}\n"
        f"  %{name} = load i64, ptr %{name}.p, align 8"
    )


def _pointer(name: str) -> str:
    return _field(name).replace(f"load i64, ptr %{name}.p", f"load ptr, ptr %{name}.p")


def _worker(program: Program) -> str:
    """Take tasks until none is left; a slow thread takes fewer."""
    base = "double" if program.compute == "f64" else "float"
    return f"""
define internal void @worker(ptr %context) #0 {{
entry:
{_field("tasks")}
{_pointer("chunks")}
{_pointer("task_ends")}
{_pointer("slots")}
{_pointer("scalars")}
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
  %scalars.row = mul i64 %tensor, {len(program.scalars)}
  %my.scalars = getelementptr {base}, ptr %scalars, i64 %scalars.row
  call void @chunk(ptr %my.slots, ptr %my.scalars, i64 %start, i64 %stop)
  %c.next = add i64 %c, 1
  %again = icmp slt i64 %c.next, %end
  br i1 %again, label %chunks.loop, label %take
done:
  ret void
}}"""


def _prologue(program: Program, declared: set[str]) -> str:
    """Count the step and compute each tensor's numbers, in float64; equal counts share the work."""
    base = "double" if program.compute == "f64" else "float"
    block = Block("double", 0, "d", declared)
    known: dict[Expr, str] = {}
    inputs = {e.name: e for e in walk(program.scalars) if e.op == "hyper"}
    for index, name in enumerate(program.hypers):
        if name in inputs and name != "t":
            pointer = block.emit(f"getelementptr double, ptr %hypers, i64 {index}")
            known[inputs[name]] = block.emit(f"load double, ptr {pointer}, align 8")
    if "t" in inputs:
        known[inputs["t"]] = "%t"
    values = block.compute(program.scalars, known)
    for index, item in enumerate(program.scalars):
        name = values[item]
        if item.op in _COMPARE:
            name = block.emit(f"uitofp i1 {name} to double")
        if base == "float":
            name = block.emit(f"fptrunc double {name} to float")
        pointer = block.emit(f"getelementptr {base}, ptr %row, i64 {index}")
        block.lines.append(f"store {base} {name}, ptr {pointer}, align 4")
    size = len(program.scalars) * (8 if base == "double" else 4)
    declared.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    counts = "t" in program.hypers
    count = (
        """
  %counter.p = getelementptr ptr, ptr %counters, i64 %k
  %counter = load ptr, ptr %counter.p, align 8
  %old = load float, ptr %counter, align 4
  %new = fadd float %old, 1.0
  store float %new, ptr %counter, align 4
  %t = fpext float %new to double"""
        if counts
        else "\n  %t = fadd double 0.0, 1.0"
    )
    return f"""
define internal void @prologue(ptr %context) #0 {{
entry:
{_field("tensors")}
{_pointer("scalars")}
{_pointer("hypers")}
{_pointer("counters")}
  %some = icmp sgt i64 %tensors, 0
  br i1 %some, label %each, label %done
each:
  %k = phi i64 [ 0, %entry ], [ %k.next, %advance ]
  %before = phi double [ 0.0, %entry ], [ %t, %advance ]
  %offset = mul i64 %k, {len(program.scalars)}
  %row = getelementptr {base}, ptr %scalars, i64 %offset{count}
  %same.t = fcmp oeq double %t, %before
  br i1 %same.t, label %copy, label %compute
copy:
  %row.before = getelementptr {base}, ptr %row, i64 -{len(program.scalars)}
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


def print_llvm(program: Program, width: int) -> str:
    """Print the kernel as LLVM IR text.

    Args:
        program: what to do to each element.
        width: elements in a vector, a power of two.
    """
    declared: set[str] = set()
    functions = [_chunk(program, width, declared), _worker(program), _prologue(program, declared)]
    entry = f"""
define void @kudari_step(ptr %context, i64 %threads) #0 {{
entry:
  call void @prologue(ptr %context)
  %next.p = getelementptr i64, ptr %context, i64 {CONTEXT["next"]}
  store i64 0, ptr %next.p, align 8
  %many = icmp sgt i64 %threads, 1
  br i1 %many, label %fork.region, label %alone
alone:
  call void @worker(ptr %context)
  br label %done
fork.region:
{_pointer("fork")}
  %count = trunc i64 %threads to i32
  call void %fork(ptr @worker, ptr %context, i32 %count, i32 0)
  br label %done
done:
  ret void
}}
"""
    attributes = 'attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }'
    return "\n".join([f"; {program.name}", *sorted(declared), *functions, entry, attributes])
