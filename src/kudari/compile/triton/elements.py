"""Prints what a pass does to each element, block by block: one reading of memory; grid (blocks,)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from kudari.compile.expression import Expr, walk
from kudari.compile.triton.code import Code
from kudari.compile.triton.coded import Access, line_of

if TYPE_CHECKING:
    from kudari.compile.program import Pass, Program, Sum

ARGUMENTS = ("blocks", "slots", "scalars", "sizes", "partials", "keys", "skip")


def print_elements(program: Program, number: int) -> str:
    """The kernel of a pass over elements, or over every k-th. A block is whole, or the last of its tensor."""
    part = program.passes[number]
    used = {
        slot.name: Access(program, i, step=part.every // slot.every)
        for i, slot in enumerate(program.slots)
        if slot.name in {*part.reads, *part.writes}
    }
    lines = ["row = tl.load(blocks + place * 2)", "start = tl.load(blocks + place * 2 + 1) * BLOCK"]
    lines.append("left = tl.load(sizes + row) - start")
    lines += found_slots(program, used.values())
    lines += numbers_of(program, part)
    line = line_of(program, part)
    lines += _places(line)
    if part.draws:
        lines.append("noise = random_bits(tl.load(keys + row), start + index)")
    shape = f"[BLOCK // {line}, {line}]" if line else "[BLOCK]"

    def add(code: Code, index: int, added: Sum, masked: bool) -> None:
        add_to_tensor(program, code, index, spread(code, added.expr, shape), masked)

    return "\n".join(
        [
            "@triton.jit",
            f"def pass{number}({', '.join(ARGUMENTS)}, BLOCK: tl.constexpr, ALIGNED: tl.constexpr):",
            f"    # {', '.join(f'{a.index}: {a.slot.name}' for a in used.values())}",
            "    place = tl.program_id(0)",
            "    if tl.load(skip) == 0:",
            *(" " * 8 + text for text in lines),
            # The whole block apart: a mask would keep the loads from being 16 bytes wide.
            "        if left >= BLOCK:",
            *print_body(program, part, used, shape, add, masked=False),
            "        else:",
            "            inside = index < left",
            *print_body(program, part, used, shape, add, masked=True),
        ]
    )


def found_slots(program: Program, used: Collection[Access]) -> list[str]:
    """Lines that find the slots of the tensor, at the first element that is worked on."""
    columns = len(program.slots) + len(program.coded)
    lines = [line for access in used for line in access.addresses(columns)]
    if used:
        lines.append("if ALIGNED:")
        lines += [f"    at{a.index} = tl.multiple_of(at{a.index}, 16)" for a in used]
    return lines + [line for access in used for line in access.advance()]


def numbers_of(program: Program, part: Pass) -> list[str]:
    """Lines that load the tensor's numbers for a pass."""
    size = program.scalars_per_tensor
    return [f"s{i} = tl.load(scalars + row * {size} + {i})" for i in range(len(part.scalars))]


def _places(line: int) -> list[str]:
    """Numbers of a block's elements: one after the other, or in lines that share a scale."""
    if not line:
        return ["index = tl.arange(0, BLOCK)"]
    return [
        f"line = tl.arange(0, BLOCK // {line})[:, None]",
        f"index = line * {line} + tl.arange(0, {line})[None, :]",
    ]


def print_body(
    program: Program,
    part: Pass,
    used: Mapping[str, Access],
    shape: str,
    add: Callable[[Code, int, Sum, bool], None],
    *,
    masked: bool,
) -> list[str]:
    """Lines that load, compute, store and sum up what one program of the launch works on.

    Args:
        program, part: what to do.
        used: the slots that are read or written, by name.
        shape: of the elements, as Triton's source has it.
        add: emits what becomes of one of the pass's sums, given by its index.
        masked: whether some of the elements do not exist.
    """
    inputs = {e.name: e for e in walk(part.roots) if e.op in ("slot", "hyper")}
    code = Code(program.compute, " " * 12, {e: e.name for e in inputs.values() if e.op == "hyper"})
    code.known |= {e: "noise" for e in walk(part.roots) if e.op == "noise"}
    for name, access in used.items():
        if name in inputs:
            code.known[inputs[name]] = access.load(code, masked=masked)
    code.add(part.roots)
    for name, item in part.outputs:
        used[name].store(code, spread(code, item, shape), masked=masked)
    for offset, added in enumerate(part.sums):
        add(code, part.first_sum + offset, added, masked)
    return code.lines


def add_to_tensor(program: Program, code: Code, index: int, value: str, masked: bool) -> None:
    """Emit the sum over what is here, in float64."""
    code.emit(f"sum{index} = ({value}).to(tl.float64)")
    if masked:
        code.emit(f"sum{index} = tl.where(inside, sum{index}, 0.0)")
    code.emit(f"tl.store(partials + place * {len(program.sums)} + {index}, tl.sum(sum{index}))")


def spread(code: Code, item: Expr, shape: str) -> str:
    """A value for each element, also where the expression has no tensor in it."""
    value = code.value(item)
    return value if item.kind == "tensor" else f"tl.zeros({shape}, {code.type}) + {value}"
