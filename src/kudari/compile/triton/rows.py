"""Prints passes that go by rows: tiles of matrices, and what rows and columns have one value of.

``pass0`` runs once for each tile of all tensors together. It leaves the sum of each of the tile's rows, and
of each of its columns, in a place of its own; what several tiles have summed is folded afterwards, in order.
``vectors0_0`` and so on run before it, once for a run of lines each, and compute what rows and columns share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.compile.expression import walk
from kudari.compile.program import Pass, Program, Shape, Vector, sum_name
from kudari.compile.triton.code import TYPES, Code
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
_SPAN = [
    "row = tl.load(groups + tl.program_id(0) * 2)",
    "number = tl.load(groups + tl.program_id(0) * 2 + 1)",
    *_DIMS,
    "spans = tl.maximum(tl.cdiv(height, HIGH), tl.cdiv(width, WIDE))",
    "matrix = number // spans * TOGETHER",
    "span = number % spans",
    "start_row = matrix * height",
    "start_column = matrix * width",
    "m = tl.arange(0, TOGETHER)[:, None]",
    "here = m < matrices - matrix",
    "r = span * HIGH + tl.arange(0, HIGH)[None, :]",
    "c = span * WIDE + tl.arange(0, WIDE)[None, :]",
    "index_row = m * height + r",
    "index_column = m * width + c",
    "inside_row = here & (r < height)",
    "inside_column = here & (c < width)",
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


def stages(part: Pass) -> list[tuple[Vector, ...]]:
    """Runs of vectors that are computed together: what needs a sum over matrices waits for another launch.

    A sum ends one run, where its parts are added up, and begins the next, where it is given to all lines.
    """
    found: list[tuple[Vector, ...]] = [()]
    for vector in part.vectors:
        found[-1] += (vector,)
        if vector.total:
            found.append((vector,))
    return found if part.vectors else []


def print_vectors(program: Program, number: int) -> str:
    """The kernels of what is computed for rows and columns before a pass; grid (groups,)."""
    return "\n\n".join(
        _print_stage(program, number, stage) for stage in range(len(stages(program.passes[number])))
    )


def _print_stage(program: Program, number: int, stage: int) -> str:
    part = program.passes[number]
    vectors = stages(part)[stage]
    names = {e.name for v in vectors for e in walk([v.expr]) if e.op == "slot"} | {v.name for v in vectors}
    used = {
        s.name: Access(program, i, *_WHERE[s.shape]) for i, s in enumerate(program.slots) if s.name in names
    }
    lines = [
        *_SPAN,
        *(line for a in used.values() for line in a.addresses(len(program.slots) + len(program.coded))),
        *(line for a in used.values() for line in a.advance()),
        *numbers_of(program, part),
    ]
    for i, vector in enumerate(vectors):
        # Another thread may read what this one has written.
        lines += ["tl.debug_barrier()"] if i else []
        given = vector.total and stage and not i
        lines += _give(program, used[vector.name]) if given else _compute(program, used, vector)
    constants = ", ".join(f"{name}: tl.constexpr" for name in ("TOGETHER", "HIGH", "WIDE"))
    return "\n".join(
        [
            "@triton.jit",
            f"def vectors{number}_{stage}({', '.join(VECTORS_ARGUMENTS)}, {constants}):",
            f"    # {', '.join(f'{a.index}: {a.slot.name}' for a in used.values())}",
            "    if tl.load(skip) == 0:",
            *(" " * 8 + text for text in lines),
        ]
    )


def _compute(program: Program, used: dict[str, Access], vector: Vector) -> list[str]:
    """Lines that store new values, or the sum over these lines of each matrix."""
    access = used[vector.name]
    inputs = {e.name: e for e in walk([vector.expr]) if e.op in ("slot", "hyper")}
    code = Code(program.compute, "", {e: name for name, e in inputs.items() if e.op == "hyper"})
    for name, slot in used.items():
        if name in inputs:
            code.known[inputs[name]] = slot.load(code, masked=True)
    code.add([vector.expr])
    value = code.value(vector.expr)
    if vector.expr.kind == "scalar":
        value = f"tl.zeros({_shape(access)}, {code.type}) + {value}"
    if not vector.total:
        access.store(code, value, masked=True)
        return code.lines
    code.emit(f"total = tl.sum(tl.where({access.inside}, {value}, 0.0), axis=1, keep_dims=True)")
    place, count = _parts(access)
    code.emit(f"tl.store({place} + span * matrices, total, mask=here & (span < {count}))")
    return code.lines


def _give(program: Program, access: Access) -> list[str]:
    """Lines that add up the parts of a sum over each matrix, in order, and give it to all lines of it."""
    zeros, most = f"tl.zeros({_shape(access)}, {TYPES[program.compute]})", _most(access)
    place, count = _parts(access)
    store = Code(program.compute, "", {})
    access.store(store, f"{zeros} + tl.sum(total, axis=1, keep_dims=True)", masked=True)
    return [
        f"total = {zeros}",
        f"for first in range(0, {count}, {most}):",
        f"    part = first + tl.arange(0, {most})[None, :]",
        f"    wanted = here & (part < {count})",
        f"    total += tl.load({place} + part * matrices, mask=wanted, other=0.0)",
        *store.lines,
    ]


def _most(access: Access) -> str:
    return "HIGH" if access.slot.shape == "rows" else "WIDE"


def _shape(access: Access) -> str:
    return f"[TOGETHER, {_most(access)}]"


def _parts(access: Access) -> tuple[str, str]:
    """Where the first parts of sums over these matrices lie, behind the lines; and how many each has."""
    rows = access.slot.shape == "rows"
    length, start = ("height", "start_row") if rows else ("width", "start_column")
    place = f"at{access.index} + (matrices * {length} - {start} + matrix + m)"
    return place, f"tl.cdiv({length}, {_most(access)})"
