"""Codes in vector code: a block's codes to numbers and back, whatever the codec's formulas are.

The arithmetic is in float32, like the scales, also where the rest of a kernel is in float64.
"""

from __future__ import annotations

import struct

from kudari.compile.codecs import CODE, LEAST_PEAK, SHARE, Codec
from kudari.compile.expression import shift_offset
from kudari.compile.llvm.block import Block

_LEAST = 0x00800000  # bits of LEAST_PEAK
_NAN = 0x7FC00000
_SIGN = 0x80000000
_LARGEST = 3.4028234663852886e38
assert LEAST_PEAK == 2.0**-126


def decode(block: Block, codec: Codec, codes: str, scale: str, offset: str, left: str, prefix: str) -> str:
    """Load a vector of codes and turn them into numbers of the block's type.

    Args:
        block: where the code goes.
        codec: how they are coded.
        codes: address of the tensor's codes.
        scale: the block's scale in every lane.
        offset: number of the first element.
        left: how many lanes hold elements; empty for all.
        prefix: keeps names apart.
    """
    inner = block.narrow(prefix)
    whole = inner.vector("i32")
    stored = _load_bytes(inner, codec, codes, offset, left)
    if codec.shift:
        value = _untapered(inner, codec, stored, scale)
        return value if block.base == "float" else block.emit(f"fpext {inner.type} {value} to {block.type}")
    number = inner.emit(f"zext {inner.vector('i8')} {stored} to {whole}")
    if codec.zero:
        number = inner.emit(f"sub {whole} {number}, splat (i32 {codec.zero})")
    code = inner.emit(f"sitofp {whole} {number} to {inner.type}")
    share = inner.compute([codec.decode], {CODE: code})[codec.decode]
    value = inner.emit(f"fmul {inner.type} {share}, {scale}")
    return value if block.base == "float" else block.emit(f"fpext {inner.type} {value} to {block.type}")


def encode(block: Block, codec: Codec, value: str, inverse: str) -> str:
    """Code a float32 vector; returns what is to be stored, as i32.

    Args:
        block: where the code goes; its type is float32.
        codec: how to code.
        value: the numbers.
        inverse: what makes shares of the numbers, in every lane; 0 where there is no such number.
    """
    if codec.shift:
        return _tapered(block, codec, value, inverse)
    whole, full = block.vector("i32"), block.number(codec.full)
    size = block.call("fabs", [value])
    share = block.emit(f"fmul {block.type} {size}, {inverse}")
    inside = block.emit(f"fcmp olt {block.type} {share}, {full}")
    share = block.emit(f"select {block.mask} {inside}, {block.type} {share}, {block.type} {full}")  # also NaN
    code = block.compute([codec.encode], {SHARE: share})[codec.encode]
    if codec.signed:  # rounded towards zero below, so the sign may go first
        code = block.call("copysign", [code, value])
    number = block.emit(f"fptosi {block.type} {code} to {whole}")
    if codec.zero:
        number = block.emit(f"add {whole} {number}, splat (i32 {codec.zero})")
    if codec.signed and codec.top > codec.zero:  # the highest code has no counterpart below zero
        number = _larger(block, number, "zeroinitializer")
    return number


def _untapered(block: Block, codec: Codec, stored: str, scale: str) -> str:
    """Stored codes of tapered floats as numbers.

    Above the lowest half of a float's bits there is nothing in the offset, so the upper half can take it away
    by itself, with saturation: 0 stays 0. What the sign bit turns into is shifted out.
    """
    whole, lanes = block.vector("i32"), 2 * block.width
    number = block.emit(f"zext {block.vector('i8')} {stored} to {whole}")
    if codec.zero:
        number = block.emit(f"sub {whole} {number}, splat (i32 {codec.zero})")
    code = block.emit(f"sitofp {whole} {number} to {block.type}")
    bits = block.emit(f"bitcast {block.type} {code} to {whole}")
    halves = block.emit(f"bitcast {whole} {bits} to <{lanes} x i16>")
    upper = shift_offset(codec.shift, codec.top + 1.0) >> 16
    offset = ", ".join(f"i16 {upper * (k % 2)}" for k in range(lanes))
    name = f"@llvm.usub.sat.v{lanes}i16"
    block.declared.add(f"declare <{lanes} x i16> {name}(<{lanes} x i16>, <{lanes} x i16>)")
    halves = block.emit(f"call <{lanes} x i16> {name}(<{lanes} x i16> {halves}, <{lanes} x i16> <{offset}>)")
    size = block.emit(f"bitcast <{lanes} x i16> {halves} to {whole}")
    size = block.emit(f"shl {whole} {size}, splat (i32 {codec.shift})")
    if codec.signed:
        sign = block.emit(f"and {whole} {bits}, splat (i32 {_SIGN})")
        size = block.emit(f"or {whole} {size}, {sign}")
    share = block.emit(f"bitcast {whole} {size} to {block.type}")
    return block.emit(f"fmul {block.type} {share}, {scale}")


def _tapered(block: Block, codec: Codec, value: str, inverse: str) -> str:
    """Codes of tapered floats less what stands for 0, in 32 bits, to be narrowed with saturation.

    Shares larger than that of the largest element by a rounding get the same code, so nothing is cut off. The
    signs that an arithmetic shift fills in below the first bit are masked away.
    """
    whole, n = block.vector("i32"), codec.shift
    if not codec.signed:
        value = block.call("fabs", [value])
    share = block.emit(f"fmul {block.type} {value}, {inverse}")
    bits = block.emit(f"bitcast {block.type} {share} to {whole}")
    moved = block.emit(f"{'ashr' if codec.signed else 'lshr'} {whole} {bits}, splat (i32 {n})")
    if codec.signed:
        moved = block.emit(f"and {whole} {moved}, splat (i32 {_SIGN | (1 << (31 - n)) - 1})")
    root = block.emit(f"add {whole} {moved}, splat (i32 {shift_offset(n, codec.top + 1.0)})")
    code = block.emit(f"bitcast {whole} {root} to {block.type}")
    name = f"@llvm.lrint.v{block.width}i32.v{block.width}f32"
    block.declared.add(f"declare {whole} {name}({block.type})")
    number = block.emit(f"call {whole} {name}({block.type} {code})")
    if codec.signed:
        return number
    least = _extreme(block, "umin", bits, "splat (i32 1)")  # 1 for what is not 0
    return _extreme(block, "smax", number, least)


def store(block: Block, codec: Codec, numbers: list[str], codes: str, offset: str, left: str) -> None:
    """Store vectors of codes that follow each other.

    Args:
        block, codec: see :func:`encode`.
        numbers: one vector, or a power of two of them, as from :func:`encode`.
        codes, offset, left: see :func:`decode`.
    """
    width = block.width
    while len(numbers) > 1:  # narrowing many at once takes fewer instructions
        order = ", ".join(f"i32 {k}" for k in range(2 * width))
        numbers = [
            block.emit(
                f"shufflevector <{width} x i32> {a}, <{width} x i32> {b}, <{2 * width} x i32> <{order}>"
            )
            for a, b in zip(numbers[::2], numbers[1::2], strict=True)
        ]
        width *= 2
    small = _narrowed(block, codec, numbers[0], width)
    _store_bytes(block, codec, small, width, codes, offset, left)


def peak(block: Block, value: str, before: str) -> str:
    """The larger of absolute values and those before, as bits: in them, NaN is larger than all numbers."""
    whole = block.vector("i32")
    bits = block.emit(f"bitcast {block.type} {value} to {whole}")
    bits = block.emit(f"and {whole} {bits}, splat (i32 {0x7FFFFFFF})")
    return _larger(block, before, bits)


def scale_of(block: Block, codec: Codec, peaks: str) -> tuple[str, str]:
    """The scale of a block and its inverse, both plain numbers.

    Args:
        block: where the code goes; its type is float32.
        codec: whose.
        peaks: a vector as from :func:`peak`, over all elements of the block.
    """
    width = block.width
    name = f"@llvm.vector.reduce.smax.v{width}i32"
    block.declared.add(f"declare i32 {name}(<{width} x i32>)")
    top = block.emit(f"call i32 {name}(<{width} x i32> {peaks})")
    small = block.emit(f"icmp slt i32 {top}, {_LEAST}")
    none = block.emit(f"icmp eq i32 {top}, 0")
    limit = struct.unpack("<i", struct.pack("<f", _LARGEST * codec.full))[0]
    wild = block.emit(f"icmp sgt i32 {top}, {limit}")
    bits = block.emit(f"select i1 {small}, i32 {_LEAST}, i32 {top}")
    bits = block.emit(f"select i1 {none}, i32 0, i32 {bits}")
    bits = block.emit(f"select i1 {wild}, i32 {_NAN}, i32 {bits}")
    largest = block.emit(f"bitcast i32 {bits} to float")
    plain = Block("float", 0, f"{block.prefix}.p", block.declared)
    scale = block.emit(f"fmul float {largest}, {plain.number(1 / codec.full)}")
    usable = block.emit(f"fcmp ogt float {largest}, 0.0")
    ratio = block.emit(f"fdiv float {plain.number(codec.full)}, {largest}")
    return scale, block.emit(f"select i1 {usable}, float {ratio}, float 0.0")


def _larger(block: Block, a: str, b: str) -> str:
    return _extreme(block, "smax", a, b)


def _extreme(block: Block, which: str, a: str, b: str, width: int = 0) -> str:
    width = width or block.width
    whole, name = f"<{width} x i32>", f"@llvm.{which}.v{width}i32"
    block.declared.add(f"declare {whole} {name}({whole}, {whole})")
    return block.emit(f"call {whole} {name}({whole} {a}, {whole} {b})")


def _narrowed(block: Block, codec: Codec, numbers: str, width: int) -> str:
    """Codes in 32 bits as they are stored, in bytes."""
    whole, small = f"<{width} x i32>", f"<{width} x i8>"
    if not codec.shift:
        return block.emit(f"trunc {whole} {numbers} to {small}")
    low = -codec.zero
    for which, limit in (("smax", low), ("smin", low + 255)):
        numbers = _extreme(block, which, numbers, f"splat (i32 {limit})", width)
    narrow = block.emit(f"trunc {whole} {numbers} to {small}")
    return block.emit(f"xor {small} {narrow}, splat (i8 {codec.zero})") if codec.signed else narrow


def _place(block: Block, codec: Codec, codes: str, offset: str) -> str:
    if codec.bits == 4:
        offset = block.emit(f"lshr i64 {offset}, 1")
    return block.emit(f"getelementptr i8, ptr {codes}, i64 {offset}")


def _length(block: Block, codec: Codec, left: str) -> str:
    """Bytes that hold so many codes."""
    if codec.bits == 8:
        return left
    up = block.emit(f"add i64 {left}, 1")
    return block.emit(f"lshr i64 {up}, 1")


def _copy(block: Block, to: str, source: str, length: str) -> None:
    block.declared.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    block.lines.append(f"call void @llvm.memcpy.p0.p0.i64(ptr {to}, ptr {source}, i64 {length}, i1 false)")


def _load_bytes(block: Block, codec: Codec, codes: str, offset: str, left: str) -> str:
    """A vector of stored codes, one in each byte."""
    width = block.width * codec.bits // 8
    pointer = _place(block, codec, codes, offset)
    if left:  # never read beyond the end of the tensor
        _copy(block, "%bytes", pointer, _length(block, codec, left))
        pointer = "%bytes"
    raw = block.emit(f"load <{width} x i8>, ptr {pointer}, align 1")
    if codec.bits == 8:
        return raw
    low = block.emit(f"and <{width} x i8> {raw}, splat (i8 15)")
    high = block.emit(f"lshr <{width} x i8> {raw}, splat (i8 4)")
    order = ", ".join(f"i32 {k // 2 + (k % 2) * width}" for k in range(2 * width))
    return block.emit(
        f"shufflevector <{width} x i8> {low}, <{width} x i8> {high}, <{2 * width} x i32> <{order}>"
    )


def _store_bytes(
    block: Block, codec: Codec, values: str, lanes: int, codes: str, offset: str, left: str
) -> None:
    width = lanes * codec.bits // 8
    if codec.bits == 4:
        kind, half = f"<{lanes} x i8>", f"<{width} x i8>"
        even = ", ".join(f"i32 {2 * k}" for k in range(width))
        odd = ", ".join(f"i32 {2 * k + 1}" for k in range(width))
        low = block.emit(f"shufflevector {kind} {values}, {kind} poison, <{width} x i32> <{even}>")
        high = block.emit(f"shufflevector {kind} {values}, {kind} poison, <{width} x i32> <{odd}>")
        high = block.emit(f"shl {half} {high}, splat (i8 4)")
        values = block.emit(f"or {half} {low}, {high}")
    pointer = _place(block, codec, codes, offset)
    if not left:
        block.lines.append(f"store <{width} x i8> {values}, ptr {pointer}, align 1")
        return
    block.lines.append(f"store <{width} x i8> {values}, ptr %bytes, align 1")
    _copy(block, pointer, "%bytes", _length(block, codec, left))
