"""Prints passes that go by rows: tiles of matrices, and what rows and columns have one value of.

``pass0`` runs once for each tile of all tensors together. It leaves the sum of each of the tile's rows, and
of each of its columns, in a place of its own; what several tiles have summed is folded afterwards, in order.
``vectors0`` runs before it, once for a run of matrices, and computes what rows and columns share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.compile.expression import walk
from kudari.compile.program import Program, Shape, Vector, sum_name
from kudari.compile.triton.code import Code
from kudari.compile.triton.coded import Access
from kudari.compile.triton.elements import add_to_tensor, found_slots, numbers_of, print_body, spread

if TYPE_CHECKING:
    from kudari.compile.program import Sum

TILES_ARGUMENTS = ("tiles", "slots", "scalars", "dims", "partials", "keys", "firsts", "skip")
VECTORS_ARGUMENTS = ("groups", "slots", "scalars", "dims", "skip")

_ELEMENTS = "[MATRICES, ROWS, COLUMNS]"
# Where a slot of each shape has the first of the tile's numbers, all of them, and which of them exist.
_WHERE: dict[Shape, tuple[str, str, str]] = {
    "elements": ("start", "index", "inside"),
    "rows": ("start_row", "index_row", "inside_row"),
    "columns": ("start_column", "index_column", "inside_column"),
}
_LINES = ("row", "column")  # scopes of sums with one value for each
_DIMS = [
    "matrices = tl.load(dims + row * 3)",
    "height = tl.load(dims + row * 3 + 1)",
    "width = tl.load(dims + row * 3 + 2)",
]
_TILE = [
    "row = tl.load(tiles + tl.program_id(0) * 2)",
    "number = tl.load(tiles + tl.program_id(0) * 2 + 1)",
    "place = tl.load(firsts + row) + number",
    *_DIMS,
    "if ALIGNED:",
    "    width = tl.multiple_of(width, 16)",
    "down = tl.cdiv(height, ROWS)",
    "across = tl.cdiv(width, COLUMNS)",
    "matrix = number // across // down * MATRICES",
    "strip = number // across % down",
    "tile = number % across",
    "start_row = matrix * height + strip * ROWS",
    "start_column = matrix * width + tile * COLUMNS",
    "start = start_row * width + tile * COLUMNS",
    "m = tl.arange(0, MATRICES)[:, None, None]",
    "r = tl.arange(0, ROWS)[None, :, None]",
    "c = tl.arange(0, COLUMNS)[None, None, :]",
    "index_row = m * height + r",
    "index_column = m * width + c",
    "index = index_row * width + c",
    "left = matrices - matrix",
    "below = height - strip * ROWS",
    "right = width - tile * COLUMNS",
]


def print_tiles(program: Program, number: int) -> str:
    """The kernel of a pass over tiles; grid (tiles,)."""
    part = program.passes[number]
    own = [sum_name(i) for i, added in enumerate(part.sums, part.first_sum) if added.scope in _LINES]
    names = {*(e.name for e in walk(part.roots) if e.op == "slot"), *part.writes, *own}
    used = {
        s.name: Access(program, i, *_WHERE[s.shape]) for i, s in enumerate(program.slots) if s.name in names
    }
    lines = [*_TILE, *found_slots(program, used.values()), *numbers_of(program, part)]
    lines += [_own_place(used[name]) for name in own]
    if part.draws:
        lines.append("noise = random_bits(tl.load(keys + row), start + index)")

    def add(code: Code, index: int, added: Sum, masked: bool) -> None:
        value = spread(code, added.expr, _ELEMENTS)
        if added.scope in ("tensor", "model"):
            add_to_tensor(program, code, index, value, masked)
            return
        if masked:
            value = f"tl.where(inside, {value}, 0.0)"
        total = f"tl.sum({value}, axis={2 if added.scope == 'row' else 1}, keep_dims=True)"
        used[sum_name(index)].store(code, total, masked=masked)

    constants = ", ".join(f"{name}: tl.constexpr" for name in ("MATRICES", "ROWS", "COLUMNS", "ALIGNED"))
    return "\n".join(
        [
            "@triton.jit",
            f"def pass{number}({', '.join(TILES_ARGUMENTS)}, {constants}):",
            f"    # {', '.join(f'{a.index}: {a.slot.name}' for a in used.values())}",
            "    if tl.load(skip) == 0:",
            *(" " * 8 + text for text in lines),
            "        if (left >= MATRICES) & (below >= ROWS) & (right >= COLUMNS):",
            *print_body(program, part, used, _ELEMENTS, add, masked=False),
            "        else:",
            "            inside_row = (m < left) & (r < below)",
            "            inside_column = (m < left) & (c < right)",
            "            inside = inside_row & (c < right)",
            *print_body(program, part, used, _ELEMENTS, add, masked=True),
        ]
    )


def _own_place(access: Access) -> str:
    """A line that goes to the sums of this tile: behind those of the tensor, if several tiles add to one."""
    rows = access.slot.shape == "rows"
    count, mine, lines = ("across", "tile", "height") if rows else ("down", "strip", "width")
    return f"at{access.index} += tl.where({count} > 1, {mine} + 1, 0) * (matrices * {lines})"


def print_vectors(program: Program, number: int) -> str:
    """The kernel of what is computed for rows and columns before a pass; grid (groups,)."""
    part = program.passes[number]
    names = {e.name for v in part.vectors for e in walk([v.expr]) if e.op == "slot"}
    names |= {v.name for v in part.vectors}
    used = {
        s.name: Access(program, i, *_line(s.shape)) for i, s in enumerate(program.slots) if s.name in names
    }
    lines = [
        "row = tl.load(groups + tl.program_id(0) * 2)",
        "matrix = tl.load(groups + tl.program_id(0) * 2 + 1) * TOGETHER",
        *_DIMS,
        "m = tl.arange(0, TOGETHER)[:, None]",
        "here = m < matrices - matrix",
        "start_row = matrix * height",
        "start_column = matrix * width",
        *(line for a in used.values() for line in a.addresses(len(program.slots) + len(program.coded))),
        *(line for a in used.values() for line in a.advance()),
        *numbers_of(program, part),
    ]
    for i, vector in enumerate(part.vectors):
        # Another thread may read what this one has written.
        lines += ["tl.debug_barrier()"] if i else []
        lines += _print_vector(program, used, vector)
    constants = ", ".join(f"{name}: tl.constexpr" for name in ("TOGETHER", "HIGH", "WIDE"))
    return "\n".join(
        [
            "@triton.jit",
            f"def vectors{number}({', '.join(VECTORS_ARGUMENTS)}, {constants}):",
            f"    # {', '.join(f'{a.index}: {a.slot.name}' for a in used.values())}",
            "    if tl.load(skip) == 0:",
            *(" " * 8 + text for text in lines),
        ]
    )


def _line(shape: Shape) -> tuple[str, str, str]:
    """As in ``_WHERE``, for as many lines as are computed at once."""
    return _WHERE[shape][0], "index", "inside"


def _print_vector(program: Program, used: dict[str, Access], vector: Vector) -> list[str]:
    """Lines that compute new values, as many at once as fit; or one sum a matrix, given to all of them."""
    rows = used[vector.name].slot.shape == "rows"
    length, most = ("height", "HIGH") if rows else ("width", "WIDE")
    loop = [
        f"for first in range(0, {length}, {most}):",
        f"    line = first + tl.arange(0, {most})[None, :]",
        f"    index = m * {length} + line",
        f"    inside = here & (line < {length})",
    ]
    inputs = {e.name: e for e in walk([vector.expr]) if e.op in ("slot", "hyper")}
    code = Code(program.compute, " " * 4, {e: name for name, e in inputs.items() if e.op == "hyper"})
    for name, access in used.items():
        if name in inputs:
            code.known[inputs[name]] = access.load(code, masked=True)
    code.add([vector.expr])
    zeros = f"tl.zeros([TOGETHER, {most}], {code.type})"
    value = code.value(vector.expr)
    value = f"{zeros} + {value}" if vector.expr.kind == "scalar" else value
    if not vector.total:
        used[vector.name].store(code, value, masked=True)
        return [*loop, *code.lines]
    code.emit(f"total += tl.where(inside, {value}, 0.0)")
    whole = Code(program.compute, " " * 4, {})
    used[vector.name].store(whole, f"{zeros} + whole", masked=True)
    summed = "whole = tl.sum(total, axis=1, keep_dims=True)"
    return [f"total = {zeros}", *loop, *code.lines, summed, *loop, *whole.lines]
