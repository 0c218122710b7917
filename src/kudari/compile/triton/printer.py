"""Prints a program as Triton source: for each pass, a kernel for tensors' numbers and one for elements.

``numbers0`` runs once for each tensor: it counts the step and computes in float64 what is the same for all
elements. ``pass0`` runs once for each block of elements of all tensors together; tensors are found through a
table of addresses. Nothing comes from the host but tables that stay where they are, so that a CUDA graph can
take a step up, and a step that finds the flag ``skip`` set does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from kudari.compile.expression import Expr, walk
from kudari.compile.program import Float, Pass, Program, Slot, Sum, sum_name
from kudari.errors import CompileError

_TYPES = {"f64": "tl.float64", "f32": "tl.float32", "bf16": "tl.uint16", "f16": "tl.float16"}
_SCOPES = ("tensor", "model")
_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INFIX = {"add": "+", "sub": "-", "mul": "*"}
_CALLS = {
    "abs": "tl.abs", "exp": "tl.exp", "log": "tl.log", "sin": "tl.sin", "cos": "tl.cos", "floor": "tl.floor",
    "pow": "power", "atan2": "atan2", "sign": "sign", "fma": "tl.fma",
}  # fmt: skip
_BOUNDS = {"min": "tl.minimum", "max": "tl.maximum"}

NUMBERS_ARGUMENTS = ("scalars", "hypers", "counters", "cells", "sums", "numels", "skip")
PASS_ARGUMENTS = ("blocks", "slots", "scalars", "sizes", "partials", "skip")


class _Code:
    """Straight-line Triton code of one type, on blocks of elements or on one number."""

    def __init__(self, compute: str, indent: str, known: dict[Expr, str]) -> None:
        self.compute, self.indent, self.known = compute, indent, dict(known)
        self.lines: list[str] = []

    @property
    def type(self) -> str:
        """Triton's name of the type."""
        return _TYPES["f64" if self.compute == "f64" else "f32"]

    def emit(self, text: str) -> None:
        """Append a line."""
        self.lines.append(self.indent + text)

    def add(self, roots: Iterable[Expr]) -> None:
        """Compute everything the roots need."""
        for item in walk(roots):
            if item not in self.known:
                self.emit(f"v{len(self.known)} = {self._apply(item)}")
                self.known[item] = f"v{len(self.known)}"

    def value(self, item: Expr) -> str:
        """A computed value as a number; comparisons are 0 or 1."""
        return f"{self.known[item]}.to({self.type})" if item.op in _COMPARE else self.known[item]

    def _apply(self, item: Expr) -> str:
        args = [self.value(a) for a in item.args]
        if item.op == "const":
            # As a tensor, because Triton takes a bare number for float32 in many places.
            return f"tl.full([], {_number(item.value)}, {self.type})"
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
        if item.op in _CALLS:
            return f"{_CALLS[item.op]}({', '.join(args)})"
        raise CompileError(
            f"The Triton printer has no {item.op!r}.", fix="Use the eager backend for this rule."
        )


def _number(value: float) -> str:
    text = repr(value)
    return text if text[-1].isdigit() else f'float("{text}")'


def print_triton(program: Program) -> str:
    """Print the kernels of a program as the text of a Python module.

    Raises:
        CompileError: if the program has an operation, a kind of storage or of sum that the printer does not
            know.
    """
    _refuse_unknown(program)
    parts = [_HEADER.format(name=program.name)]
    for number in range(len(program.passes)):
        parts += [_print_numbers(program, number), _print_pass(program, number)]
    return "\n\n".join(parts)


def _refuse_unknown(program: Program) -> None:
    """Everything about a program must be understood, also what did not exist when this was written."""
    for slot in program.slots:
        # Rebuilt from what is printed, it is the same only if it has nothing else to it.
        if slot.dtype not in _TYPES or slot != Slot(slot.name, slot.dtype):
            raise _unknown(f"{slot.name!r} as it is stored ({slot})")
    for part in program.passes:
        for added in part.sums:
            if added.scope not in _SCOPES or added != Sum(added.expr, added.scope):
                raise _unknown(f"a sum over each {added.scope}")
        if part != Pass(part.scalars, part.outputs, part.sums, part.first_sum):
            raise _unknown("passes over rows, columns or some elements only")
    known = (program.name, program.slots, program.hypers, program.passes, program.compute)
    if program != Program(*known, program.cells, program.running, program.counts):
        raise _unknown("all that this rule's program has beside its passes")


def _unknown(what: str) -> CompileError:
    return CompileError(f"The Triton printer does not know {what}.")


_HEADER = """# Printed by Kudari from the rule {name!r}.

import triton
import triton.language as tl

from kudari.compile.triton.functions import atan2, power, read_bfloat16, round_bfloat16, sign
"""


def _print_numbers(program: Program, number: int) -> str:
    """What is the same for all elements of a tensor, in float64; grid (tensors,)."""
    part = program.passes[number]
    new_cells = program.cells if number == len(program.passes) - 1 else ()
    roots = (*part.scalars, *(e for _, e in new_cells))
    needed = {e.name: e for e in walk(roots) if e.op == "hyper"}
    code = _Code("f64", " " * 8, {})
    for index, name in enumerate(name for name, _ in program.cells):
        place = f"tl.load(cells + row * {len(program.cells)} + {index})"
        code.emit(f"cell{index} = {place}.to(tl.pointer_type(tl.float64))")
        if name in needed:
            code.emit(f"old{index} = tl.load(cell{index})")
            code.known[needed[name]] = f"old{index}"
    if "t" in program.hypers:
        first = number == 0 and program.counts
        code.emit("counter = tl.load(counters + row).to(tl.pointer_type(tl.float32))")
        code.emit(f"count = tl.load(counter){' + 1.0' if first else ''}")
        if first:
            code.emit("tl.store(counter, count)")
        code.emit("t = count.to(tl.float64)")
    inputs = {name: f"tl.load(hypers + {i})" for i, name in enumerate(program.hypers) if name != "t"}
    sums = len(program.sums)
    inputs |= {sum_name(i): f"tl.load(sums + row * {sums} + {i})" for i in range(sums)}
    inputs |= {"numel": "tl.load(numels + row).to(tl.float64)", "t": "t"}
    for index, (name, text) in enumerate(inputs.items()):
        if name in needed and needed[name] not in code.known:
            code.emit(f"h{index} = {text}")
            code.known[needed[name]] = f"h{index}"
    code.add(roots)
    store = f".to({_TYPES[program.compute]})"
    for index, item in enumerate(part.scalars):
        place = f"scalars + row * {program.scalars_per_tensor} + {index}"
        code.emit(f"tl.store({place}, {code.value(item)}{store})")
    for index, (_, item) in enumerate(new_cells):
        code.emit(f"tl.store(cell{index}, {code.value(item)})")
    body = code.lines or ["        pass"]
    head = f"@triton.jit\ndef numbers{number}({', '.join(NUMBERS_ARGUMENTS)}):"
    return "\n".join([head, "    row = tl.program_id(0)", "    if tl.load(skip) == 0:", *body])


def _print_pass(program: Program, number: int) -> str:
    """One reading of memory; grid (blocks,). A block is whole, or the last of its tensor."""
    part = program.passes[number]
    used = [s for s in program.slots if s.name in {*part.reads, *part.writes}]
    index = {slot.name: i for i, slot in enumerate(program.slots)}
    lines = [
        "@triton.jit",
        f"def pass{number}({', '.join(PASS_ARGUMENTS)}, BLOCK: tl.constexpr, ALIGNED: tl.constexpr):",
        "    place = tl.program_id(0)",
        "    if tl.load(skip) == 0:",
        "        row = tl.load(blocks + place * 2)",
        "        start = tl.load(blocks + place * 2 + 1) * BLOCK",
        "        left = tl.load(sizes + row) - start",
    ]
    for slot in used:
        address = f"tl.load(slots + row * {len(program.slots)} + {index[slot.name]})"
        lines.append(f"        at_{slot.name} = {address}.to(tl.pointer_type({_TYPES[slot.dtype]}))")
    if used:
        lines.append("        if ALIGNED:")
        lines += [f"            at_{s.name} = tl.multiple_of(at_{s.name}, 16)" for s in used]
    lines += [f"        at_{s.name} += start" for s in used]
    for i in range(len(part.scalars)):
        lines.append(f"        s{i} = tl.load(scalars + row * {program.scalars_per_tensor} + {i})")
    lines.append("        index = tl.arange(0, BLOCK)")
    return "\n".join(
        [
            *lines,
            # The whole block apart: a mask would keep the loads from being 16 bytes wide.
            "        if left >= BLOCK:",
            *_body(program, number, masked=False),
            "        else:",
            "            inside = index < left",
            *_body(program, number, masked=True),
        ]
    )


def _body(program: Program, number: int, *, masked: bool) -> list[str]:
    """Load, compute, store and sum up one block."""
    part = program.passes[number]
    dtypes: dict[str, Float] = {s.name: s.plain for s in program.slots}
    inputs = [e for e in walk(part.roots) if e.op in ("slot", "hyper")]
    code = _Code(program.compute, " " * 12, {e: f"x_{e.name}" if e.op == "slot" else e.name for e in inputs})
    mask = ", mask=inside" if masked else ""
    for name in part.reads:
        if dtypes[name] == "bf16":
            arguments = "inside, True" if masked else "index, False"
            code.emit(f"x_{name} = read_bfloat16(at_{name} + index, {arguments})")
        else:
            other = f"{mask}, other=0.0" if masked else ""
            widen = "" if dtypes[name] == program.compute else f".to({code.type})"
            code.emit(f"x_{name} = tl.load(at_{name} + index{other}){widen}")
    code.add(part.roots)
    for name, item in part.outputs:
        value = f"new_{name}"
        code.emit(f"{value} = {_spread(code, item)}")
        if dtypes[name] == "bf16":
            value = f"round_bfloat16({value})"
        elif dtypes[name] != program.compute:
            value = f"{value}.to({_TYPES[dtypes[name]]})"
        code.emit(f"tl.store(at_{name} + index, {value}{mask})")
    sums = len(program.sums)
    for offset, added in enumerate(part.sums):
        code.emit(f"sum{offset} = ({_spread(code, added.expr)}).to(tl.float64)")
        if masked:
            code.emit(f"sum{offset} = tl.where(inside, sum{offset}, 0.0)")
        code.emit(f"tl.store(partials + place * {sums} + {part.first_sum + offset}, tl.sum(sum{offset}))")
    return code.lines


def _spread(code: _Code, item: Expr) -> str:
    """A value for each element of the block, also where the expression has no tensor in it."""
    value = code.value(item)
    return value if item.kind == "tensor" else f"tl.zeros([BLOCK], {code.type}) + {value}"
