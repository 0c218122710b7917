"""Slots as a pass of a printed kernel loads and stores them: plain floats, or codes with a scale a line.

A pass over codes works on its elements as lines and columns: the elements of a line share a scale.
"""

from __future__ import annotations

import struct

from kudari.compile.codecs import CODE, LEAST_PEAK, SHARE, Codec
from kudari.compile.expression import Expr
from kudari.compile.program import Pass, Program, Slot
from kudari.compile.triton.code import TYPES, Code, number
from kudari.errors import CompileError

_LARGEST = 3.4028234663852886e38


def line_of(program: Program, part: Pass) -> int:
    """How many elements share a scale in a pass; 0 if it touches no codes.

    Raises:
        CompileError: not all of its codes are in lines of the same length.
    """
    names = {*part.reads, *part.writes}
    sizes = {s.codec.block for s in program.slots if s.codec and s.name in names}
    if len(sizes) > 1:
        raise CompileError(
            f"{program.name} has states in blocks of {sorted(sizes)} elements.",
            fix="Give all states of a tensor the same state_dtype.",
        )
    return sizes.pop() if sizes else 0


class Access:
    """Loads and stores of one slot.

    Args:
        program: whose.
        index: the slot's.
        start: name of the number of the first element that the program of the launch works on.
        places: name of the numbers of all of them, counted from there.
        inside: name of the mask of those that exist.
        step: from one number to the next in memory.
    """

    def __init__(
        self,
        program: Program,
        index: int,
        start: str = "start",
        places: str = "index",
        inside: str = "inside",
        step: int = 1,
    ) -> None:
        self.program, self.index = program, index
        self.slot: Slot = program.slots[index]
        self.codec: Codec | None = self.slot.codec
        self.start, self.inside = start, inside
        self.step = step
        # Far from the start, with long steps: more than 2**31 elements.
        self.places = places if step == 1 else f"{places}.to(tl.int64) * {step}"

    def addresses(self, columns: int) -> list[str]:
        """Lines that find the slot and its scales in the tensor's row of the table, of so many columns."""
        kind = TYPES[self.slot.plain] if self.codec is None else "tl.uint8"
        found = [_address(f"at{self.index}", columns, self.index, kind)]
        if self.codec is not None:
            column = len(self.program.slots) + self.program.coded.index(self.slot.name)
            found.append(_address(f"scale_at{self.index}", columns, column, "tl.float32"))
        return found

    def advance(self) -> list[str]:
        """Lines that go to the first element."""
        if self.codec is None:
            return [f"at{self.index} += {self.start}" + f" * {self.step}" * (self.step > 1)]
        codes = "start" if self.codec.bits == 8 else "start // 2"
        return [f"at{self.index} += {codes}", f"scale_at{self.index} += start // {self.codec.block}"]

    def load(self, code: Code, *, masked: bool) -> str:
        """Emit a load; returns the name of the numbers, in the type of the arithmetic."""
        i, found = self.index, f"x{self.index}"
        if self.codec is not None:
            _decode(code, i, self.codec, masked)
        elif self.slot.dtype == "bf16":
            arguments = f"{self.inside}, True" if masked else f"{self.places}, False"
            code.emit(f"{found} = read_bfloat16(at{i} + {self.places}, {arguments})")
        else:
            mask = f", mask={self.inside}, other=0.0" if masked else ""
            code.emit(f"{found} = tl.load(at{i} + {self.places}{mask})")
        if self.slot.dtype != code.compute:
            code.emit(f"{found} = {found}.to({code.type})")
        return found

    def store(self, code: Code, value: str, *, masked: bool) -> None:
        """Emit a store of numbers, a tensor of the pass's shape."""
        i, mask = self.index, f", mask={self.inside}" if masked else ""
        code.emit(f"new{i} = {value}")
        if self.codec is not None:
            _encode(code, i, self.codec, masked)
            return
        kept = f"new{i}"
        if self.slot.dtype == "bf16":
            kept = f"round_bfloat16(new{i})"
        elif self.slot.dtype != code.compute:
            kept = f"new{i}.to({TYPES[self.slot.plain]})"
        code.emit(f"tl.store(at{i} + {self.places}, {kept}{mask})")


def _address(name: str, columns: int, column: int, kind: str) -> str:
    return f"{name} = tl.load(slots + row * {columns} + {column}).to(tl.pointer_type({kind}))"


def _decode(code: Code, i: int, codec: Codec, masked: bool) -> None:
    """Codes to numbers, in float32 like the scales."""
    mask = ", mask=inside, other=0" if masked else ""
    if codec.bits == 8:
        stored = f"tl.load(at{i} + index{mask}).to(tl.int32)"
    else:  # the first of two in the low half of a byte
        stored = f"((tl.load(at{i} + index // 2{mask}).to(tl.int32) >> (index % 2 * 4)) & 15)"
    code.emit(f"code{i} = ({stored} - {codec.zero}).to(tl.float32)")
    share = _formula(code, codec.decode, CODE, f"code{i}", f"d{i}_")
    few = f", mask=line * {codec.block} < left, other=0.0" if masked else ""
    code.emit(f"x{i} = {share} * tl.load(scale_at{i} + line{few})")


def _encode(code: Code, i: int, codec: Codec, masked: bool) -> None:
    """Numbers ``new{i}`` to codes and scales; stores both."""
    new, mask = f"new{i}", ", mask=inside" if masked else ""
    if code.compute != "f32":
        code.emit(f"{new} = {new}.to(tl.float32)")
    if masked:
        code.emit(f"{new} = tl.where(inside, {new}, 0.0)")
    limit = _bits(_LARGEST * codec.full)
    numbers = f"{_bits(LEAST_PEAK)}, {limit}, {number(codec.full)}, {number(1 / codec.full)}"
    code.emit(f"scale{i}, inverse{i} = scale_of({new}, {numbers})")
    few = f", mask=line * {codec.block} < left" if masked else ""
    code.emit(f"tl.store(scale_at{i} + line, scale{i}{few})")
    code.emit(f"share{i} = tl.abs({new}) * inverse{i}")
    # Also where it is NaN.
    code.emit(f"share{i} = tl.where(share{i} < {number(codec.full)}, share{i}, {number(codec.full)})")
    found = _formula(code, codec.encode, SHARE, f"share{i}", f"e{i}_")
    if codec.shift:  # to nearest, ties to even: where numbers are this large there are only whole ones
        code.emit(f"code{i} = ({found} + 12582912.0) - 12582912.0")
        found = f"code{i}"
    # All others are cut to a whole number after the sign is there, which is towards zero.
    signed = f"tl.where({new} < 0, {found} * -1.0, {found})" if codec.signed else found
    code.emit(f"code{i} = {signed}.to(tl.int32) + {codec.zero}")
    if codec.signed and codec.top > codec.zero:  # the highest code has no counterpart below zero
        code.emit(f"code{i} = tl.maximum(code{i}, 0)")
    if codec.bits == 8:
        code.emit(f"tl.store(at{i} + index, code{i}.to(tl.uint8){mask})")
        return
    pairs = f"tl.reshape(code{i} << (index % 2 * 4), [BLOCK // {codec.block}, {codec.block // 2}, 2])"
    code.emit(f"byte{i} = tl.sum({pairs}, axis=2).to(tl.uint8)")
    code.emit(f"half = line * {codec.block // 2} + tl.arange(0, {codec.block // 2})[None, :]")
    mask = ", mask=half * 2 < left" if masked else ""
    code.emit(f"tl.store(at{i} + half, byte{i}{mask})")


def _formula(code: Code, formula: Expr, about: Expr, name: str, prefix: str) -> str:
    """Emit a codec's formula in float32; returns the name of its value."""
    inner = Code("f32", code.indent, {about: name}, prefix)
    inner.add([formula])
    code.lines += inner.lines
    return inner.value(formula)


def _bits(value: float) -> int:
    """The bits of a number as float32."""
    found: int = struct.unpack("<i", struct.pack("<f", value))[0]
    return found
