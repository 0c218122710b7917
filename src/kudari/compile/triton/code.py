"""Straight-line Triton code for expressions, whatever it is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kudari.compile.arc_tangent import ARC_TANGENT, RATIO
from kudari.compile.expression import BITS, Expr, shift_offset, walk
from kudari.errors import CompileError

TYPES = {"f64": "tl.float64", "f32": "tl.float32", "bf16": "tl.uint16", "f16": "tl.float16"}
_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INFIX = {"add": "+", "sub": "-", "mul": "*"}
_CALLS = {
    "abs": "tl.abs", "exp": "tl.exp", "log": "tl.log", "sin": "tl.sin", "cos": "tl.cos", "floor": "tl.floor",
    "pow": "power", "sign": "sign", "fma": "fma",
}  # fmt: skip
_BOUNDS = {"min": "tl.minimum", "max": "tl.maximum"}
_SHIFTS = ("shift_root", "shift_power")


class Code:
    """Straight-line Triton code of one type, on blocks of elements or on one number.

    Args:
        compute: type of the arithmetic.
        indent: before every line.
        known: names of the values that are there.
        prefix: of the names of new values.
    """

    def __init__(
        self, compute: Literal["f64", "f32"], indent: str, known: dict[Expr, str], prefix: str = "v"
    ) -> None:
        self.compute, self.indent, self.known, self.prefix = compute, indent, dict(known), prefix
        self.lines: list[str] = []

    @property
    def type(self) -> str:
        """Triton's name of the type."""
        return TYPES[self.compute]

    def emit(self, text: str) -> None:
        """Append a line."""
        self.lines.append(self.indent + text)

    def add(self, roots: Iterable[Expr]) -> None:
        """Compute everything the roots need."""
        for item in walk(roots):
            if item not in self.known:
                name = f"{self.prefix}{len(self.known)}"
                self.emit(f"{name} = {self._apply(item)}")
                self.known[item] = name

    def value(self, item: Expr) -> str:
        """A computed value as a number; comparisons are 0 or 1."""
        return f"{self.known[item]}.to({self.type})" if item.op in _COMPARE else self.known[item]

    def _apply(self, item: Expr) -> str:
        if item.op in BITS:
            return self._bits(item)
        args = [self.value(a) for a in item.args]
        if item.op == "const":
            # As a tensor, because Triton takes a bare number for float32 in many places.
            return f"tl.full([], {number(item.value)}, {self.type})"
        if item.op in _INFIX:
            return f"{args[0]} {_INFIX[item.op]} {args[1]}"
        if item.op in _COMPARE:
            return f"{args[0]} {_COMPARE[item.op]} {args[1]}"
        if item.op == "div":
            return f"{args[0]} / {args[1]}" if self.compute == "f64" else f"tl.div_rn({args[0]}, {args[1]})"
        if item.op == "sqrt":
            return f"tl.sqrt({args[0]})" if self.compute == "f64" else f"tl.sqrt_rn({args[0]})"
        if item.op == "neg":  # Triton's own minus is 0 - x, which loses the sign of zero
            return f"{args[0]} * -1.0"
        if item.op in _BOUNDS:
            return f"{_BOUNDS[item.op]}({args[0]}, {args[1]}, propagate_nan=tl.PropagateNan.ALL)"
        if item.op == "where":
            condition = self.known[item.args[0]] if item.args[0].op in _COMPARE else f"{args[0]} != 0"
            return f"tl.where({condition}, {args[1]}, {args[2]})"
        if item.op == "atan2":
            return self._atan2(*args)
        if item.op in _CALLS:
            return f"{_CALLS[item.op]}({', '.join(args)})"
        raise CompileError(
            f"The Triton printer has no {item.op!r}.", fix="Use the eager backend for this rule."
        )

    def _atan2(self, y: str, x: str) -> str:
        """Emit the angle's arc tangent, by the polynomial that all printers have."""
        place = f"{self.prefix}{len(self.known)}_"
        self.emit(f"{place}ratio = ratio_of({y}, {x})")
        inner = Code(self.compute, self.indent, {RATIO: f"{place}ratio"}, place)
        formula = ARC_TANGENT[self.compute]
        inner.add([formula])
        self.lines += inner.lines
        return f"angle_of({y}, {x}, {inner.value(formula)})"

    def _bits(self, item: Expr) -> str:
        """An operation on the bits of a float32 number, which are functions of ours."""
        if item.op in _SHIFTS:
            n, unit = int(item.args[1].value), item.args[2].value
            return f"{item.op}({self.value(item.args[0])}, {n}, {shift_offset(n, unit)})"
        return f"{item.op}({', '.join(map(self.value, item.args))})"


def number(value: float) -> str:
    """A float as Triton's source has it."""
    text = repr(value)
    return text if text[-1].isdigit() else f'float("{text}")'
