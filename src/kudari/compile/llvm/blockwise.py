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


def _entry(block: Block, coded: _Coded) -> None:
    """Addresses of the scales, and what a chunk needs on the stack."""
    width = block.width
    for i in coded.codecs:
        place = block.emit(f"getelementptr ptr, ptr %slots, i64 {coded.column(i)}")
        block.lines.append(f"%scales{i} = load ptr, ptr {place}, align 8")
    block.lines.append(f"%bytes = alloca <{width} x i8>, align 64")
    for i in coded.codecs:
        block.lines.append(f"%buffer{i} = alloca [{coded.block} x float], align 64")


def _begin(block: Block, coded: _Coded) -> dict[int, str]:
    """The scales of a block as they were, in vectors."""
    scales = {}
    inner = block.narrow("s")
    number = inner.emit(f"udiv i64 %begin, {coded.block}")
    for i in coded.read:
        place = inner.emit(f"getelementptr float, ptr %scales{i}, i64 {number}")
        one = inner.emit(f"load float, ptr {place}, align 4")
        scales[i] = inner.splat(one)
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


def _update(
    coded: _Coded, block: Block, offset: str, left: str, numbers: dict[Expr, str], before: dict[str, str]
) -> dict[str, str]:
    """Load and compute one vector; store plain slots, keep coded ones in their buffers.

    Args:
        coded, block, numbers: as elsewhere.
        offset: of the vector in the tensor.
        left: how many elements it has; empty if it is whole.
        before: peaks of coded slots and totals of sums so far, by name.

    Returns:
        Peaks and totals with this vector.
    """
    program, part = coded.program, coded.part
    mask = tail_mask(block) if left else ""
    after: dict[str, str] = {}
    known = numbers | load_slots(program, part, block, offset, mask)
    for item in walk(part.roots):
        if item.op == "slot" and item not in known:
            i = next(k for k in coded.codecs if program.slots[k].name == item.name)
            known[item] = _kept(block, i, offset)
    values = block.compute(part.roots, known)
    for name, expr in part.outputs:
        i = next(k for k, s in enumerate(program.slots) if s.name == name)
        if i in coded.codecs:
            after[f"peak{i}"] = _keep(block, i, values[expr], (offset, mask, before[f"peak{i}"]))
            continue
        dtype = program.slots[i].plain
        pointer = block.emit(f"getelementptr {TYPES[dtype]}, ptr %slot{i}, i64 {offset}")
        block.store(dtype, values[expr], pointer, mask)
    for i, vector in enumerate(sum_vectors(part, block, values, mask)):
        after[f"total{i}"] = block.emit(f"fadd {block.type} {before[f'total{i}']}, {vector}")
    return after


def _kept(block: Block, index: int, offset: str) -> str:
    """A vector of a slot's buffer."""
    inner = block.narrow(f"d{index}")
    pointer = _in_buffer(inner, index, offset)
    value = inner.emit(f"load {inner.type}, ptr {pointer}, align {4 * inner.width}")
    return value if block.base == "float" else block.emit(f"fpext {inner.type} {value} to {block.type}")


def _keep(block: Block, index: int, value: str, where: tuple[str, str, str]) -> str:
    """Put new values into the buffer and look at their size; returns the largest so far, lane by lane."""
    offset, mask, before = where
    inner = block.narrow(f"k{index}")
    if block.base == "double":
        value = inner.emit(f"fptrunc {block.type} {value} to {inner.type}")
    if mask:
        value = inner.emit(f"select {inner.mask} {mask}, {inner.type} {value}, {inner.type} zeroinitializer")
    pointer = _in_buffer(inner, index, offset)
    inner.lines.append(f"store {inner.type} {value}, ptr {pointer}, align {4 * inner.width}")
    return coding.peak(inner, value, before)


def _end(block: Block, coded: _Coded) -> dict[int, str]:
    """After a block's values are computed: store its new scales; returns their inverses in vectors."""
    inverses = {}
    inner = block.narrow("n")
    number = inner.emit(f"udiv i64 %begin, {coded.block}")
    for i in coded.written:
        scale, inverse = coding.scale_of(inner, coded.codecs[i], f"%peak{i}.all")
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


def _carried(coded: _Coded, block: Block) -> dict[str, str]:
    """What goes from vector to vector, with its type: each coded slot's peak, each sum's total."""
    peaks = dict.fromkeys((f"peak{i}" for i in coded.written), f"<{block.width} x i32>")
    return peaks | dict.fromkeys((f"total{i}" for i in range(len(coded.part.sums))), block.type)


def _phis(carried: dict[str, str], main: dict[str, str], tail: dict[str, str]) -> dict[str, str]:
    """What is carried where it comes to: ``blocks``, ``loop``, ``after`` the loop and ``computed``.

    Totals go on from block to block of codes, a peak begins anew.
    """
    lines: dict[str, list[str]] = {"blocks": [], "loop": [], "after": [], "computed": []}
    for name, kind in carried.items():
        start, phi = "zeroinitializer", f"phi {kind}"
        if name.startswith("total"):
            start = f"%{name}.block"
            lines["blocks"].append(f"{start} = {phi} [ zeroinitializer, %entry ], [ %{name}.all, %coded ]")
        lines["loop"].append(f"%{name}.loop = {phi} [ {start}, %filled ], [ {main[name]}, %loop ]")
        lines["after"].append(f"%{name}.after = {phi} [ {start}, %filled ], [ {main[name]}, %loop ]")
        lines["computed"].append(f"%{name}.all = {phi} [ %{name}.after, %after ], [ {tail[name]}, %tail ]")
    return {label: indent(found) for label, found in lines.items()}


def print_blocks(program: Program, number: int, width: int, declared: set[str]) -> str:
    """The inner loop of a pass: elements [start, stop) of one tensor, start being that of a block."""
    part = program.passes[number]
    coded = _Coded(program, part)
    entry, begin, fill, some, main, tail, end, fast, code, last = (
        Block(base_type(program), width, prefix, declared) for prefix in "hbupmtnfce"
    )
    numbers = head_of(program, part, entry)
    _entry(entry, coded)
    scales = _begin(begin, coded)
    together = _TOGETHER if all(c.shift for c in coded.codecs.values()) else 1
    _unpack(fill, coded, scales, "%u", "", together)
    _unpack(some, coded, scales, "%s", _left(some, "%s"), 1)
    carried = _carried(coded, main)
    added = _update(coded, main, "%i", "", numbers, {name: f"%{name}.loop" for name in carried})
    rest = _update(coded, tail, "%whole", "%left", numbers, {name: f"%{name}.after" for name in carried})
    phis = _phis(carried, added, rest)
    inverses = _end(end, coded)
    _code(fast, coded, inverses, "%f", "", together)
    _code(code, coded, inverses, "%k", _left(code, "%k"), 1)
    add_up(part, last, {i: f"%total{i}.all" for i in range(len(part.sums))})
    return f"""
define internal void @chunk{number}(
    ptr noalias %slots, ptr noalias %scalars, ptr noalias %partial, i64 %start, i64 %stop) #0 {{
entry:
{indent(entry.lines)}
  br label %blocks
blocks:
  %begin = phi i64 [ %start, %entry ], [ %follow, %coded ]
{phis["blocks"]}
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
{phis["loop"]}
{indent(main.lines)}
  %next = add i64 %i, {width}
  %more = icmp slt i64 %next, %whole
  br i1 %more, label %loop, label %after
after:
{phis["after"]}
  %rest = icmp ne i64 %left, 0
  br i1 %rest, label %tail, label %computed
tail:
{indent(tail.lines)}
  br label %computed
computed:
{phis["computed"]}
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
