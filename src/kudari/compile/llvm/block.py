"""Straight-line LLVM code: loads, arithmetic and stores on one vector or one number."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from kudari.compile.expression import BITS, Expr, walk
from kudari.compile.llvm import rounding
from kudari.compile.llvm.atan2 import atan2
from kudari.compile.program import BYTES, Float
from kudari.errors import CompileError

TYPES = {"f64": "double", "f32": "float", "bf16": "i16", "f16": "half"}
_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_CALLS = {
    "sqrt": "sqrt", "abs": "fabs", "exp": "exp", "log": "log", "sin": "sin", "cos": "cos", "floor": "floor",
    "pow": "pow", "fma": "fma", "min": "minimum", "max": "maximum",
}  # fmt: skip
COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


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

    def narrow(self, prefix: str = "") -> Block:
        """A float32 block that writes into this one's lines."""
        self._count += 1
        made = Block("float", self.width, f"{self.prefix}.{prefix}{self._count}.", self.declared)
        made.lines = self.lines
        return made

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
        return f"splat ({self.base} {text})" if self.width else text

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
        if item.op in ("min", "max") and self.width:
            numbers = [i for i, a in enumerate(item.args) if a.kind == "scalar"]
            if len(numbers) == 1:
                (at,) = numbers
                return self._bound(item.op, args[1 - at], args[at], constant=item.args[at].op == "const")
        if item.op in _CALLS:
            return self.call(_CALLS[item.op], args)
        if item.op in COMPARE:
            return self.emit(f"fcmp {COMPARE[item.op]} {kind} {args[0]}, {args[1]}")
        if item.op == "where":
            condition = args[0]
            if item.args[0].op not in COMPARE:  # a number from the host: 0 or 1
                condition = self.emit(f"fcmp une {kind} {condition}, {self.number(0.0)}")
            return self._choose(condition, args[1], args[2], [a.op == "slot" for a in item.args[1:]])
        if item.op == "sign":
            return self._sign(args[0])
        if item.op == "atan2":
            return atan2(self, args[0], args[1], right=item.args[1].op in ("sqrt", "abs"))
        if item.op in BITS:
            return rounding.operation(self, item, args)
        raise CompileError(f"The CPU printer has no {item.op!r}.", fix="Use the eager backend for this rule.")

    def _choose(self, condition: str, yes: str, no: str, loaded: list[bool]) -> str:
        """One of two values. What has just been loaded is frozen, which costs nothing.

        Else LLVM makes a masked store of "keep the old value", which AMD's processors take 20 cycles for.
        """
        values = [
            self.emit(f"freeze {self.type} {x}") if old else x
            for x, old in zip((yes, no), loaded, strict=True)
        ]
        return self.emit(f"select {self.mask} {condition}, {self.type} {values[0]}, {self.type} {values[1]}")

    def _bound(self, op: str, x: str, number: str, constant: bool) -> str:
        """The "max" or "min" of a vector and one number; NaN if either is. Which zero, is not said.

        One instruction beside a constant, which is not NaN, two otherwise; ``llvm.maximum`` takes five.
        """
        order = "ogt" if op == "max" else "olt"
        beyond = self.emit(f"fcmp {order} {self.type} {number}, {x}")
        found = self.emit(f"select {self.mask} {beyond}, {self.type} {number}, {self.type} {x}")
        if constant:
            return found
        unknown = self.emit(f"fcmp uno {self.type} {number}, {number}")
        return self.emit(f"select {self.mask} {unknown}, {self.type} {number}, {self.type} {found}")

    def _sign(self, x: str) -> str:
        """-1 or 1 by comparison, x itself where it is zero or NaN."""
        kind, zero = self.type, self.number(0.0)
        below = self.emit(f"fcmp olt {kind} {x}, {zero}")
        above = self.emit(f"fcmp ogt {kind} {x}, {zero}")
        part = self.emit(f"select {self.mask} {below}, {kind} {self.number(-1.0)}, {kind} {x}")
        return self.emit(f"select {self.mask} {above}, {kind} {self.number(1.0)}, {kind} {part}")

    def load(self, dtype: Float, pointer: str, mask: str = "") -> str:
        """Load a vector in the type of the arithmetic."""
        stored, align = self.vector(TYPES[dtype]), BYTES[dtype]
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
        return self.widen(dtype, raw)

    def widen(self, dtype: Float, raw: str) -> str:
        """A vector as it is stored, in the type of the arithmetic."""
        stored = self.vector(TYPES[dtype])
        if TYPES[dtype] == self.base:
            return raw
        if dtype == "bf16":
            inner = self if self.base == "float" else self.narrow()
            wide = self.emit(f"zext {stored} {raw} to {self.vector('i32')}")
            high = self.emit(f"shl {self.vector('i32')} {wide}, {self._integers(16)}")
            raw = self.emit(f"bitcast {self.vector('i32')} {high} to {inner.type}")
            return raw if inner is self else self.emit(f"fpext {inner.type} {raw} to {self.type}")
        cast = "fptrunc" if dtype == "f64" else "fpext"  # a float64 gradient of a narrower parameter
        return self.emit(f"{cast} {stored} {raw} to {self.type}")

    def store(self, dtype: Float, value: str, pointer: str, mask: str = "") -> None:
        """Round to the storage type, to nearest even, and store."""
        stored, align = self.vector(TYPES[dtype]), BYTES[dtype]
        if dtype == "bf16":
            value = self.round_bf16(value)
        elif TYPES[dtype] != self.base:
            cast = "fpext" if dtype == "f64" else "fptrunc"
            value = self.emit(f"{cast} {self.type} {value} to {stored}")
        if mask:
            name = f"@llvm.masked.store.v{self.width}{'i16' if dtype == 'bf16' else f'f{8 * align}'}.p0"
            self.declared.add(f"declare void {name}({stored}, ptr, i32, {self.mask})")
            self.lines.append(
                f"call void {name}({stored} {value}, ptr {pointer}, i32 {align}, {self.mask} {mask})"
            )
        else:
            self.lines.append(f"store {stored} {value}, ptr {pointer}, align {align}")

    def _integers(self, value: int) -> str:
        return f"splat (i32 {value})" if self.width else str(value)

    def round_bf16(self, value: str) -> str:
        """The upper 16 bits, rounded to nearest even; NaN stays NaN."""
        if self.base == "double":
            inner = self.narrow()
            return inner.round_bf16(inner.emit(f"fptrunc {self.type} {value} to {inner.type}"))
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
