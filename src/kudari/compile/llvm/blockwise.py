"""The inner loop of a pass over coded slots: one block at a time, because a block shares a scale.

A block is gone through three times. First its codes become numbers in a buffer. Then new values are computed;
those of plain slots are stored, those of coded slots take the place of the old ones in the buffer while their
largest absolute value is found. Then the buffer is coded. It lies in the first-level cache. One loop for
all would have more constants than registers, and chains too long for a processor to overlap.
"""

from __future__ import annotations

from kudari.compile.codecs import Codec
from kudari.compile.expression import Expr, walk
from kudari.compile.llvm import codec as coding
from kudari.compile.llvm.block import TYPES, Block
from kudari.compile.llvm.chunk import (
    add_up,
    base_type,
    head_of,
    indent,
    load_slots,
    sum_vectors,
    tail_mask,
)
from kudari.compile.program import Pass, Program
from kudari.errors import CompileError

_TOGETHER = 4  # vectors of codes that are stored at once, in whole blocks


def touches_codes(program: Program, part: Pass) -> bool:
    """Whether a pass reads or writes a coded slot."""
    return not {*part.reads, *part.writes}.isdisjoint(program.coded)


class _Coded:
    """The coded slots of a pass.

    Attributes:
        program, part: whose.
        codecs: by index of the slot.
        written: indices of those that the pass gives new values.
        block: elements that share a scale; the same for all of them.
    """

    def __init__(self, program: Program, part: Pass) -> None:
        names = {*part.reads, *part.writes}
        self.program, self.part = program, part
        self.codecs: dict[int, Codec] = {
            i: s.codec for i, s in enumerate(program.slots) if s.codec and s.name in names
        }
        self.written = [i for i in self.codecs if program.slots[i].name in part.writes]
        self.read = [i for i in self.codecs if program.slots[i].name in part.reads]
        sizes = {c.block for c in self.codecs.values()}
        if len(sizes) > 1:
            raise CompileError(
                f"{program.name} has states in blocks of {sorted(sizes)} elements.",
                fix="Give all states of a tensor the same state_dtype.",
            )
        self.block = sizes.pop()

    def column(self, index: int) -> int:
        """Where a slot's scales are in the pointer table."""
        return len(self.program.slots) + self.program.coded.index(self.program.slots[index].name)


def _entry(block: Block, coded: _Coded, sums: int) -> None:
    """Addresses of the scales, and what a chunk needs on the stack."""
    width = block.width
    for i in coded.codecs:
        place = block.emit(f"getelementptr ptr, ptr %slots, i64 {coded.column(i)}")
        block.lines.append(f"%scales{i} = load ptr, ptr {place}, align 8")
    block.lines.append(f"%bytes = alloca <{width} x i8>, align 64")
    for i in coded.codecs:
        block.lines.append(f"%buffer{i} = alloca [{coded.block} x float], align 64")
    for i in coded.written:
        block.lines.append(f"%peak{i} = alloca <{width} x i32>, align 64")
    for i in range(sums):
        block.lines.append(f"%total{i} = alloca {block.type}, align 64")
        block.lines.append(f"store {block.type} zeroinitializer, ptr %total{i}, align 64")


def _begin(block: Block, coded: _Coded) -> dict[int, str]:
    """At the beginning of a block there is no peak yet; returns the scales as they were, in vectors."""
    scales = {}
    inner = block.narrow("s")
    number = inner.emit(f"udiv i64 %begin, {coded.block}")
    for i in coded.read:
        place = inner.emit(f"getelementptr float, ptr %scales{i}, i64 {number}")
        one = inner.emit(f"load float, ptr {place}, align 4")
        scales[i] = inner.splat(one)
    for i in coded.written:
        block.lines.append(f"store <{block.width} x i32> zeroinitializer, ptr %peak{i}, align 64")
    return scales


def _unpack(
    block: Block, coded: _Coded, scales: dict[int, str], offset: str, left: str, vectors: int
) -> None:
    """Decode some vectors of every coded slot into its buffer."""
    inner = block.narrow("u")
    for i in coded.read:
        for k in range(vectors):
            at = inner.emit(f"add i64 {offset}, {k * inner.width}")
            value = coding.decode(inner, coded.codecs[i], f"%slot{i}", scales[i], at, left, f"c{i}.{k}")
            pointer = _in_buffer(inner, i, at)
            inner.lines.append(f"store {inner.type} {value}, ptr {pointer}, align {4 * inner.width}")


def _in_buffer(inner: Block, index: int, offset: str) -> str:
    """Address of a vector of a slot's buffer."""
    place = inner.emit(f"sub i64 {offset}, %begin")
    return inner.emit(f"getelementptr float, ptr %buffer{index}, i64 {place}")


def _update(coded: _Coded, block: Block, offset: str, left: str, numbers: dict[Expr, str]) -> None:
    """Load and compute one vector; store plain slots, keep coded ones in their buffers."""
    program, part = coded.program, coded.part
    mask = tail_mask(block) if left else ""
    known = numbers | load_slots(program, part, block, offset, mask)
    for item in walk(part.roots):
        if item.op == "slot" and item not in known:
            i = next(k for k in coded.codecs if program.slots[k].name == item.name)
            known[item] = _kept(block, i, offset)
    values = block.compute(part.roots, known)
    for name, expr in part.outputs:
        i = next(k for k, s in enumerate(program.slots) if s.name == name)
        if i in coded.codecs:
            _keep(block, coded, i, values[expr], offset, mask)
            continue
        dtype = program.slots[i].plain
        pointer = block.emit(f"getelementptr {TYPES[dtype]}, ptr %slot{i}, i64 {offset}")
        block.store(dtype, values[expr], pointer, mask)
    for i, vector in enumerate(sum_vectors(part, block, values, mask)):
        before = block.emit(f"load {block.type}, ptr %total{i}, align 64")
        after = block.emit(f"fadd {block.type} {before}, {vector}")
        block.lines.append(f"store {block.type} {after}, ptr %total{i}, align 64")


def _kept(block: Block, index: int, offset: str) -> str:
    """A vector of a slot's buffer."""
    inner = block.narrow(f"d{index}")
    pointer = _in_buffer(inner, index, offset)
    value = inner.emit(f"load {inner.type}, ptr {pointer}, align {4 * inner.width}")
    return value if block.base == "float" else block.emit(f"fpext {inner.type} {value} to {block.type}")


def _keep(block: Block, coded: _Coded, index: int, value: str, offset: str, mask: str) -> None:
    """Put new values into the buffer and look at their size."""
    inner = block.narrow(f"k{index}")
    if block.base == "double":
        value = inner.emit(f"fptrunc {block.type} {value} to {inner.type}")
    if mask:
        value = inner.emit(f"select {inner.mask} {mask}, {inner.type} {value}, {inner.type} zeroinitializer")
    pointer = _in_buffer(inner, index, offset)
    inner.lines.append(f"store {inner.type} {value}, ptr {pointer}, align {4 * inner.width}")
    before = inner.emit(f"load <{inner.width} x i32>, ptr %peak{index}, align 64")
    after = coding.peak(inner, value, before)
    inner.lines.append(f"store <{inner.width} x i32> {after}, ptr %peak{index}, align 64")


def _end(block: Block, coded: _Coded) -> dict[int, str]:
    """After a block's values are computed: store its new scales; returns their inverses in vectors."""
    inverses = {}
    inner = block.narrow("n")
    number = inner.emit(f"udiv i64 %begin, {coded.block}")
    for i in coded.written:
        peaks = inner.emit(f"load <{inner.width} x i32>, ptr %peak{i}, align 64")
        scale, inverse = coding.scale_of(inner, coded.codecs[i], peaks)
        place = inner.emit(f"getelementptr float, ptr %scales{i}, i64 {number}")
        inner.lines.append(f"store float {scale}, ptr {place}, align 4")
        inverses[i] = inner.splat(inverse)
    return inverses


def _code(
    block: Block, coded: _Coded, inverses: dict[int, str], offset: str, left: str, vectors: int
) -> None:
    """Code some vectors of every buffer."""
    inner = block.narrow("w")
    for i in coded.written:
        numbers = []
        for k in range(vectors):
            at = inner.emit(f"add i64 {offset}, {k * inner.width}")
            pointer = _in_buffer(inner, i, at)
            value = inner.emit(f"load {inner.type}, ptr {pointer}, align {4 * inner.width}")
            numbers.append(coding.encode(inner, coded.codecs[i], value, inverses[i]))
        coding.store(inner, coded.codecs[i], numbers, f"%slot{i}", offset, left)


def _left(block: Block, offset: str) -> str:
    """Elements of the vector at an offset that lie in the block of codes."""
    rest = block.emit(f"sub i64 %finish, {offset}")
    few = block.emit(f"icmp slt i64 {rest}, {block.width}")
    return block.emit(f"select i1 {few}, i64 {rest}, i64 {block.width}")


def _over(label: str, before: str, after: str, counter: str, body: Block, step: int) -> str:
    """A loop over the block of codes, between two labels."""
    i = f"%{counter}"
    return f"""{label}:
  {i} = phi i64 [ %begin, %{before} ], [ {i}.next, %{label} ]
{indent(body.lines)}
  {i}.next = add i64 {i}, {step}
  {i}.more = icmp slt i64 {i}.next, %finish
  br i1 {i}.more, label %{label}, label %{after}"""


def print_blocks(program: Program, number: int, width: int, declared: set[str]) -> str:
    """The inner loop of a pass: elements [start, stop) of one tensor, start being that of a block."""
    part = program.passes[number]
    coded = _Coded(program, part)
    entry, begin, fill, some, main, tail, end, fast, code, last = (
        Block(base_type(program), width, prefix, declared) for prefix in "hbupmtnfce"
    )
    numbers = head_of(program, part, entry)
    _entry(entry, coded, len(part.sums))
    scales = _begin(begin, coded)
    together = _TOGETHER if all(c.shift for c in coded.codecs.values()) else 1
    _unpack(fill, coded, scales, "%u", "", together)
    _unpack(some, coded, scales, "%s", _left(some, "%s"), 1)
    _update(coded, main, "%i", "", numbers)
    _update(coded, tail, "%whole", "%left", numbers)
    inverses = _end(end, coded)
    _code(fast, coded, inverses, "%f", "", together)
    _code(code, coded, inverses, "%k", _left(code, "%k"), 1)
    totals = {i: last.emit(f"load {last.type}, ptr %total{i}, align 64") for i in range(len(part.sums))}
    add_up(part, last, totals)
    return f"""
define internal void @chunk{number}(
    ptr noalias %slots, ptr noalias %scalars, ptr noalias %partial, i64 %start, i64 %stop) #0 {{
entry:
{indent(entry.lines)}
  br label %blocks
blocks:
  %begin = phi i64 [ %start, %entry ], [ %follow, %coded ]
  %follow = add i64 %begin, {coded.block}
  %over = icmp sgt i64 %follow, %stop
  %finish = select i1 %over, i64 %stop, i64 %follow
  %length = sub i64 %finish, %begin
  %left = and i64 %length, {width - 1}
  %whole = sub i64 %finish, %left
  %full = icmp eq i64 %length, {coded.block}
{indent(begin.lines)}
  br i1 %full, label %fill, label %few
{_over("fill", "blocks", "filled", "u", fill, together * width)}
{_over("few", "blocks", "filled", "s", some, width)}
filled:
  %any = icmp slt i64 %begin, %whole
  br i1 %any, label %loop, label %after
loop:
  %i = phi i64 [ %begin, %filled ], [ %next, %loop ]
{indent(main.lines)}
  %next = add i64 %i, {width}
  %more = icmp slt i64 %next, %whole
  br i1 %more, label %loop, label %after
after:
  %rest = icmp ne i64 %left, 0
  br i1 %rest, label %tail, label %computed
tail:
{indent(tail.lines)}
  br label %computed
computed:
{indent(end.lines)}
  br i1 %full, label %fast, label %short
{_over("fast", "computed", "coded", "f", fast, together * width)}
{_over("short", "computed", "coded", "k", code, width)}
coded:
  %again = icmp slt i64 %follow, %stop
  br i1 %again, label %blocks, label %done
done:
{indent(last.lines)}
  ret void
}}"""
