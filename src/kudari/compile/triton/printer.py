"""Prints a program as Triton source: for each pass, a kernel for tensors' numbers and one for elements.

``numbers0`` runs once for each tensor: it counts the step and computes in float64 what is the same for all
elements. ``pass0`` runs once for each block of elements of all tensors together; tensors are found through a
table of addresses. Nothing comes from the host but tables that stay where they are, so that a CUDA graph can
take a step up, and a step that finds the flag ``skip`` set does nothing.
"""

from __future__ import annotations

from kudari.compile.expression import walk
from kudari.compile.program import Program, sum_name
from kudari.compile.triton.code import TYPES, Code
from kudari.compile.triton.elements import print_elements
from kudari.compile.triton.known import refuse_unknown
from kudari.compile.triton.rows import print_tiles, print_vectors

NUMBERS_ARGUMENTS = ("scalars", "hypers", "counters", "cells", "sums", "lengths", "skip")


def print_triton(program: Program) -> str:
    """Print the kernels of a program as the text of a Python module.

    Raises:
        CompileError: if the program has an operation, a kind of storage or of sum that the printer does not
            know.
    """
    refuse_unknown(program)
    parts = [_HEADER.format(name=program.name)]
    print_pass = print_tiles if program.by_rows else print_elements
    for number, part in enumerate(program.passes):
        parts += [_print_numbers(program, number), print_pass(program, number)]
        parts += [print_vectors(program, number)] if part.vectors else []
    return "\n\n".join(parts)


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
    lengths = enumerate(("numel", "rows", "columns"))
    inputs |= {name: f"tl.load(lengths + row * 3 + {i}).to(tl.float64)" for i, name in lengths} | {"t": "t"}
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
