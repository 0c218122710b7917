"""Operations on the bits of float32 numbers, in vector code: rounding to 16 bits, and draws for it.

Random bits are a hash of an element's number and of a 64-bit key that is drawn for each tensor and step: the
same for any split of the work. The mixing function is Wellons' lowbias32, two multiplications, applied twice
with a half of the key before each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kudari.compile.expression import Expr, shift_offset

if TYPE_CHECKING:
    from kudari.compile.llvm.block import Block

_KEY, _KEY_LOW, _KEY_HIGH = "%noise.key", "%noise.low", "%noise.high"


def load_key(block: Block, column: int) -> None:
    """Emit, once a chunk, the key that lies in a column of the pointer table."""
    place = block.emit(f"getelementptr i64, ptr %slots, i64 {column}")
    block.lines.append(f"{_KEY} = load i64, ptr {place}, align 8")
    block.lines.append(f"{_KEY_LOW} = trunc i64 {_KEY} to i32")
    top = block.emit(f"lshr i64 {_KEY}, 32")
    block.lines.append(f"{_KEY_HIGH} = trunc i64 {top} to i32")


def random_bits(block: Block, offset: str) -> str:
    """32 random bits for each lane; ``offset`` is the number of the first element."""
    whole = block.vector("i32")
    low = block.emit(f"trunc i64 {offset} to i32")
    above = block.emit(f"lshr i64 {offset}, 32")
    above = block.emit(f"trunc i64 {above} to i32")
    far = block.emit(f"mul i32 {above}, {_signed(0x9E3779B9)}")
    start = block.emit(f"add i32 {low}, {_KEY_LOW}")
    start = block.emit(f"add i32 {start}, {far}")
    lanes = f"<{', '.join(f'i32 {k}' for k in range(block.width))}>"
    bits = block.emit(f"add {whole} {_splat(block, start)}, {lanes}")
    bits = block.emit(f"xor {whole} {_mix(block, bits)}, {_splat(block, _KEY_HIGH)}")
    return _mix(block, bits)


def operation(block: Block, item: Expr, args: list[str]) -> str:
    """Emit one of :data:`kudari.compile.expression.BITS`."""
    if item.op in ("shift_root", "shift_power"):
        n, unit = int(item.args[1].value), item.args[2].value
        if item.op == "shift_root":
            return _shift_root(block, args[0], n, unit)
        return _shift_power(block, args[0], n, unit, bool(item.args[3].value))
    return _EMIT[item.op](block, *args)


def _to_bf16(block: Block, x: str) -> str:
    short, whole = block.round_bf16(x), block.vector("i32")
    wide = block.emit(f"zext {block.vector('i16')} {short} to {whole}")
    bits = block.emit(f"shl {whole} {wide}, {_integers(block, 16)}")
    return block.emit(f"bitcast {whole} {bits} to {block.type}")


def _to_f16(block: Block, x: str) -> str:
    half = block.vector("half")
    short = block.emit(f"fptrunc {block.type} {x} to {half}")
    return block.emit(f"fpext {half} {short} to {block.type}")


def _stochastic_bf16(block: Block, x: str, noise: str) -> str:
    """Add 16 random bits below the last one that stays, and cut: up with the probability of what is cut."""
    whole = block.vector("i32")
    bits = block.emit(f"bitcast {block.type} {x} to {whole}")
    draw = block.emit(f"lshr {whole} {noise}, {_integers(block, 16)}")
    moved = block.emit(f"add {whole} {bits}, {draw}")
    quiet = block.emit(f"or {whole} {bits}, {_integers(block, 0x400000)}")
    nan = block.emit(f"fcmp uno {block.type} {x}, {x}")
    chosen = block.emit(f"select {block.mask} {nan}, {whole} {quiet}, {whole} {moved}")
    cut = block.emit(f"and {whole} {chosen}, {_integers(block, 0xFFFF0000)}")
    return block.emit(f"bitcast {whole} {cut} to {block.type}")


def _drawn_bf16(block: Block, x: str, key: str) -> str:
    """The same with a hash of two numbers' bits for a draw."""
    whole = block.vector("i32")
    if block.base == "double":
        inner = block.narrow()
        x, key = (inner.emit(f"fptrunc {block.type} {v} to {inner.type}") for v in (x, key))
        return inner.emit(f"fpext {inner.type} {_drawn_bf16(inner, x, key)} to {block.type}")
    bits = block.emit(f"bitcast {block.type} {x} to {whole}")
    other = block.emit(f"bitcast {block.type} {key} to {whole}")
    other = block.emit(f"mul {whole} {other}, {_integers(block, 0x9E3779B9)}")
    return _stochastic_bf16(block, x, _mix(block, block.emit(f"add {whole} {bits}, {other}")))


def _stochastic_f16(block: Block, x: str, noise: str) -> str:
    """In units of the last place, which below 2**-14 are all 2**-24: add a draw and cut."""
    whole, kind = block.vector("i32"), block.type
    size = block.call("fabs", [x])
    bits = block.emit(f"bitcast {kind} {size} to {whole}")
    power = block.emit(f"and {whole} {bits}, {_integers(block, 0x7F800000)}")
    power = block.emit(f"bitcast {whole} {power} to {kind}")
    unit = block.emit(f"fmul {kind} {power}, {block.number(2.0**-10)}")
    tiny = block.emit(f"fcmp olt {kind} {unit}, {block.number(2.0**-24)}")
    unit = block.emit(f"select {block.mask} {tiny}, {kind} {block.number(2.0**-24)}, {kind} {unit}")
    draw = block.emit(f"lshr {whole} {noise}, {_integers(block, 19)}")  # 13 bits are cut from a float32
    draw = block.emit(f"sitofp {whole} {draw} to {kind}")
    units = block.emit(f"fdiv {kind} {size}, {unit}")
    moved = block.call("fma", [draw, block.number(2.0**-13), units])
    cut = block.emit(f"fmul {kind} {block.call('floor', [moved])}, {unit}")
    inside = block.emit(f"fcmp olt {kind} {size}, {block.number(65536.0)}")
    kept = block.emit(f"select {block.mask} {inside}, {kind} {cut}, {kind} {size}")  # NaN, Inf
    return block.call("copysign", [kept, x])


def _dither(block: Block, x: str) -> str:
    """A number in [0, 1) that looks random and depends on nothing but the bits of x."""
    whole = block.vector("i32")
    bits = _mix(block, block.emit(f"bitcast {block.type} {x} to {whole}"))
    top = block.emit(f"lshr {whole} {bits}, {_integers(block, 8)}")
    draw = block.emit(f"sitofp {whole} {top} to {block.type}")
    return block.emit(f"fmul {block.type} {draw}, {block.number(2.0**-24)}")


def _shift_root(block: Block, x: str, n: int, unit: float) -> str:
    whole = block.vector("i32")
    bits = block.emit(f"bitcast {block.type} {x} to {whole}")
    bits = block.emit(f"lshr {whole} {bits}, {_integers(block, n)}")
    bits = block.emit(f"add {whole} {bits}, {_integers(block, shift_offset(n, unit))}")
    return block.emit(f"bitcast {whole} {bits} to {block.type}")


def _shift_power(block: Block, x: str, n: int, unit: float, signed: bool) -> str:
    whole = block.vector("i32")
    bits = block.emit(f"bitcast {block.type} {x} to {whole}")
    if signed:
        sign = block.emit(f"and {whole} {bits}, {_integers(block, 0x80000000)}")
        bits = block.emit(f"and {whole} {bits}, {_integers(block, 0x7FFFFFFF)}")
    bits = block.emit(f"sub {whole} {bits}, {_integers(block, shift_offset(n, unit))}")
    bits = block.emit(f"call {whole} {_larger(block)}({whole} {bits}, {whole} zeroinitializer)")  # 0 stays 0
    bits = block.emit(f"shl {whole} {bits}, {_integers(block, n)}")
    if signed:
        bits = block.emit(f"or {whole} {bits}, {sign}")
    return block.emit(f"bitcast {whole} {bits} to {block.type}")


def _larger(block: Block) -> str:
    whole, name = block.vector("i32"), f"@llvm.smax.v{block.width}i32"
    block.declared.add(f"declare {whole} {name}({whole}, {whole})")
    return name


def _mix(block: Block, h: str) -> str:
    whole = block.vector("i32")
    for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97), (15, None)):
        top = block.emit(f"lshr {whole} {h}, {_integers(block, shift)}")
        h = block.emit(f"xor {whole} {h}, {top}")
        if factor is not None:
            h = block.emit(f"mul {whole} {h}, {_integers(block, factor)}")
    return h


_EMIT: dict[str, Callable[..., str]] = {
    "to_bf16": _to_bf16,
    "to_f16": _to_f16,
    "stochastic_bf16": _stochastic_bf16,
    "stochastic_f16": _stochastic_f16,
    "drawn_bf16": _drawn_bf16,
    "dither": _dither,
}


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value


def _integers(block: Block, value: int) -> str:
    return f"splat (i32 {_signed(value)})"


def _splat(block: Block, number: str) -> str:
    whole, zeros = block.vector("i32"), f"<{block.width} x i32> zeroinitializer"
    one = block.emit(f"insertelement {whole} poison, i32 {number}, i64 0")
    return block.emit(f"shufflevector {whole} {one}, {whole} poison, {zeros}")
