"""Prints a program as Triton source: for each pass, a kernel for tensors' numbers and one for elements.

``numbers0`` runs once for each tensor: it counts the step and computes in float64 what is the same for all
elements. ``pass0`` runs once for each block of elements of all tensors together; tensors are found through a
table of addresses. Nothing comes from the host but tables that stay where they are, so that a CUDA graph can
take a step up, and a step that finds the flag ``skip`` set does nothing.
"""

from __future__ import annotations

from kudari.compile.codecs import CODECS
from kudari.compile.expression import Expr, walk
from kudari.compile.program import BYTES, Pass, Program, Slot, Sum, sum_name
from kudari.compile.triton.code import TYPES, Code
from kudari.compile.triton.coded import Access, line_of
from kudari.errors import CompileError

_SCOPES = ("tensor", "model")

NUMBERS_ARGUMENTS = ("scalars", "hypers", "counters", "cells", "sums", "numels", "skip")
PASS_ARGUMENTS = ("blocks", "slots", "scalars", "sizes", "partials", "keys", "skip")


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
        if slot.dtype not in (*BYTES, *CODECS) or slot != Slot(slot.name, slot.dtype):
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

from kudari.compile.triton.bits import (
    dither, drawn_bf16, random_bits, read_bfloat16, round_bfloat16, scale_of, shift_power, shift_root,
    stochastic_bf16, stochastic_f16, to_bf16, to_f16,
)
from kudari.compile.triton.functions import angle_of, fma, power, ratio_of, sign
"""


def _print_numbers(program: Program, number: int) -> str:
    """What is the same for all elements of a tensor, in float64; grid (tensors,)."""
    part = program.passes[number]
    new_cells = program.cells if number == len(program.passes) - 1 else ()
    roots = (*part.scalars, *(e for _, e in new_cells))
    needed = {e.name: e for e in walk(roots) if e.op == "hyper"}
    code = Code("f64", " " * 8, {})
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
    store = f".to({TYPES[program.compute]})"
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
    used = [Access(program, i) for i, s in enumerate(program.slots) if s.name in {*part.reads, *part.writes}]
    columns = len(program.slots) + len(program.coded)
    lines = ["row = tl.load(blocks + place * 2)", "start = tl.load(blocks + place * 2 + 1) * BLOCK"]
    lines.append("left = tl.load(sizes + row) - start")
    lines += [line for access in used for line in access.addresses(columns)]
    if used:
        lines.append("if ALIGNED:")
        lines += [f"    at{a.index} = tl.multiple_of(at{a.index}, 16)" for a in used]
    lines += [line for access in used for line in access.advance()]
    for i in range(len(part.scalars)):
        lines.append(f"s{i} = tl.load(scalars + row * {program.scalars_per_tensor} + {i})")
    lines += _elements(line_of(program, part))
    if part.draws:
        lines.append("noise = random_bits(tl.load(keys + row), start + index)")
    return "\n".join(
        [
            "@triton.jit",
            f"def pass{number}({', '.join(PASS_ARGUMENTS)}, BLOCK: tl.constexpr, ALIGNED: tl.constexpr):",
            f"    # {', '.join(f'{a.index}: {a.slot.name}' for a in used)}",
            "    place = tl.program_id(0)",
            "    if tl.load(skip) == 0:",
            *(" " * 8 + line for line in lines),
            # The whole block apart: a mask would keep the loads from being 16 bytes wide.
            "        if left >= BLOCK:",
            *_body(program, number, used, masked=False),
            "        else:",
            "            inside = index < left",
            *_body(program, number, used, masked=True),
        ]
    )


def _elements(line: int) -> list[str]:
    """Numbers of a block's elements: one after the other, or in lines that share a scale."""
    if not line:
        return ["index = tl.arange(0, BLOCK)"]
    return [
        f"line = tl.arange(0, BLOCK // {line})[:, None]",
        f"index = line * {line} + tl.arange(0, {line})[None, :]",
    ]


def _body(program: Program, number: int, used: list[Access], *, masked: bool) -> list[str]:
    """Load, compute, store and sum up one block."""
    part = program.passes[number]
    inputs = {e.name: e for e in walk(part.roots) if e.op in ("slot", "hyper")}
    code = Code(program.compute, " " * 12, {e: e.name for e in inputs.values() if e.op == "hyper"})
    code.known |= {e: "noise" for e in walk(part.roots) if e.op == "noise"}
    for access in used:
        if access.slot.name in part.reads:
            code.known[inputs[access.slot.name]] = access.load(code, masked=masked)
    code.add(part.roots)
    line = line_of(program, part)
    by_name = {access.slot.name: access for access in used}
    for name, item in part.outputs:
        by_name[name].store(code, _spread(code, item, line), masked=masked)
    sums = len(program.sums)
    for offset, added in enumerate(part.sums):
        code.emit(f"sum{offset} = ({_spread(code, added.expr, line)}).to(tl.float64)")
        if masked:
            code.emit(f"sum{offset} = tl.where(inside, sum{offset}, 0.0)")
        code.emit(f"tl.store(partials + place * {sums} + {part.first_sum + offset}, tl.sum(sum{offset}))")
    return code.lines


def _spread(code: Code, item: Expr, line: int) -> str:
    """A value for each element of the block, also where the expression has no tensor in it."""
    shape = f"[BLOCK // {line}, {line}]" if line else "[BLOCK]"
    value = code.value(item)
    return value if item.kind == "tensor" else f"tl.zeros({shape}, {code.type}) + {value}"
