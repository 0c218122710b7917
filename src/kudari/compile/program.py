"""Programs: what a kernel does to one element, with every number that is the same for a tensor taken out.

A program is one or more passes over memory. A rule with a norm or a mean in it needs a pass that sums before
the pass that uses the sum.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Literal, cast

from kudari.compile.codecs import CODECS, Code, Codec
from kudari.compile.expression import Expr, Kind, walk

Float = Literal["f64", "f32", "bf16", "f16"]
Storage = Float | Code
Scope = Literal["tensor", "model", "row", "column"]
Shape = Literal["elements", "rows", "columns"]
BYTES: dict[Float, int] = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2}
STORED_BYTES: dict[str, float] = {
    **{str(name): float(size) for name, size in BYTES.items()},
    **{str(name): codec.bytes_per_element for name, codec in CODECS.items()},
}
# Bytes that a thread could move while it computes a slow function of one element.
SLOW = {"atan2": 48.0}
SCOPES: dict[str, Scope] = {
    "sum": "tensor",
    "sum_model": "model",
    "sum_columns": "row",
    "sum_rows": "column",
}
EPSILON: dict[Float, float] = {"f64": 2.0**-52, "f32": 2.0**-23, "bf16": 2.0**-7, "f16": 2.0**-10}
SHAPES: dict[Kind, Shape] = {"tensor": "elements", "row": "rows", "column": "columns"}

# Numbers that are not hyper-parameters: of a tensor, its step count and how many elements, rows and columns
# it has. The i-th sum is another; see :func:`sum_name`.
SPECIAL = ("t", "numel", "rows", "columns")


def sum_name(index: int) -> str:
    """Name of a sum where expressions use its value."""
    return f"#{index}"


@dataclass(frozen=True)
class Slot:
    """A tensor argument as the kernel sees it.

    Attributes:
        shape: one value for each element, or for each row or column of the last two dimensions.
        every: it has only every so many-th element.
        scratch: it holds nothing between steps.
    """

    name: str
    dtype: Storage
    shape: Shape = "elements"
    every: int = 1
    scratch: bool = False

    @property
    def codec(self) -> Codec | None:
        """How it is coded; None for plain floats."""
        return CODECS.get(cast(Code, self.dtype))

    @property
    def plain(self) -> Float:
        """Its dtype, for a slot of plain floats."""
        return cast(Float, self.dtype)


@dataclass(frozen=True)
class Sum:
    """A sum over elements.

    Attributes:
        expr: what is summed, in terms of slots, ``s0, s1, ...`` and constants.
        scope: over one tensor, over all tensors of the optimizer, or one sum for each row or column; those
            are kept in the scratch slot called :func:`sum_name`.
    """

    expr: Expr
    scope: Scope


@dataclass(frozen=True)
class Vector:
    """New values of a slot with one value for each row or column, computed between passes.

    Attributes:
        name: the slot.
        expr: in terms of slots of the same shape, ``s0, s1, ...`` and constants.
        total: the sum of ``expr`` over each matrix, given to all of its rows or columns.
    """

    name: str
    expr: Expr
    total: bool = False


@dataclass(frozen=True)
class Pass:
    """One reading of memory.

    Attributes:
        scalars: numbers of a tensor, computed in float64 before the pass, from hyper-parameters, ``t``,
            ``numel`` and the sums of earlier passes.
        outputs: new value of each slot written, in terms of slots, ``s0, s1, ...`` and constants.
        sums: what the pass adds up; ``first_sum`` is the program-wide index of the first.
        vectors: what is computed for rows and columns before the pass, in order, after the scalars.
        every: the pass goes over every so many-th element.
    """

    scalars: tuple[Expr, ...]
    outputs: tuple[tuple[str, Expr], ...]
    sums: tuple[Sum, ...] = ()
    first_sum: int = 0
    vectors: tuple[Vector, ...] = ()
    every: int = 1

    @property
    def roots(self) -> tuple[Expr, ...]:
        """Everything computed for each element."""
        return (*(e for _, e in self.outputs), *(s.expr for s in self.sums))

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the slots read element by element, each once."""
        found = (e for e in walk(self.roots) if e.op == "slot" and e.kind == "tensor")
        return tuple(dict.fromkeys(e.name for e in found))

    @functools.cached_property  # every step asks
    def draws(self) -> bool:
        """Whether an expression asks for random bits."""
        return any(e.op == "noise" for e in walk(self.roots))

    @property
    def writes(self) -> tuple[str, ...]:
        """Names of the slots written."""
        return tuple(name for name, _ in self.outputs)


@dataclass(frozen=True)
class Program:
    """An update, ready to be printed to a target.

    Attributes:
        name: the rule's name, for symbols and messages.
        slots: tensors, in the order of the pointer table.
        hypers: names of the numbers handed over at each step, in order; ``t`` last where it is used.
        passes: in order.
        compute: type of the arithmetic.
        cells: numbers kept for each tensor, with their new values, computed in float64 before the last pass.
        running: numbers kept for the group, with their new values in terms of the other numbers and the sums.
        counts: whether the first pass adds one to each tensor's step count; if not, that has been done.
    """

    name: str
    slots: tuple[Slot, ...]
    hypers: tuple[str, ...]
    passes: tuple[Pass, ...]
    compute: Literal["f64", "f32"]
    cells: tuple[tuple[str, Expr], ...] = ()
    running: tuple[tuple[str, Expr], ...] = ()
    counts: bool = True

    @property
    def sums(self) -> tuple[Sum, ...]:
        """All sums, by index."""
        return tuple(s for part in self.passes for s in part.sums)

    @property
    def over_model(self) -> bool:
        """Whether a sum goes over all tensors, so that passes must wait for every group."""
        return any(s.scope == "model" for s in self.sums)

    @property
    def coded(self) -> tuple[str, ...]:
        """Names of the slots that are codes with a scale for each block."""
        return tuple(s.name for s in self.slots if s.codec)

    @functools.cached_property  # every step asks
    def draws(self) -> bool:
        """Whether an expression asks for random bits."""
        return any(part.draws for part in self.passes)

    @property
    def columns(self) -> int:
        """Words in a tensor's row of the pointer table: slots, scales of coded slots, key of random bits."""
        return len(self.slots) + len(self.coded) + self.draws

    @property
    def by_rows(self) -> bool:
        """Whether the kernel goes through rows and columns of the last two dimensions."""
        return any(s.shape != "elements" for s in self.slots)

    @property
    def mixes_codes(self) -> bool:
        """Whether codes come in a pass by rows or over every k-th element, for which there is no kernel."""
        thin = [{*part.reads, *part.writes} for part in self.passes if part.every != 1]
        return bool(self.coded) and (self.by_rows or any(not names.isdisjoint(self.coded) for names in thin))

    @property
    def in_order(self) -> bool:
        """Whether it matters which element is which, so that tensors must be contiguous."""
        return bool(self.coded) or self.by_rows or any(s.every != 1 for s in self.slots)

    @property
    def scalars_per_tensor(self) -> int:
        """Numbers in a tensor's row of the table, at most over the passes."""
        return max(len(part.scalars) for part in self.passes)

    @property
    def bytes_per_parameter(self) -> float:
        """Bytes read and written for each element, over all passes."""
        size = {s.name: STORED_BYTES[s.dtype] / s.every for s in self.slots}
        return sum(size[name] for part in self.passes for name in (*part.reads, *part.writes))

    @functools.cached_property  # every step asks
    def work(self) -> float:
        """Bytes to move for each element, and those that could be moved while slow functions compute."""
        slow = [e for part in self.passes for e in walk(part.roots) if e.op in SLOW]
        return self.bytes_per_parameter + sum(SLOW[e.op] for e in slow)

    def plan(self) -> str:
        """Reads and writes of each pass: ``p g m v / p m v``."""
        order = [s.name for s in self.slots]
        rows = []
        for part in self.passes:
            reads = " ".join(sorted(part.reads, key=order.index))
            rows.append(f"{reads} / {' '.join(part.writes) or '-'}")
        return "; then ".join(rows)

    def __str__(self) -> str:
        lines = [f"program {self.name} ({self.compute})"]
        lines += [f"  slot {s.name}: {s.dtype}" for s in self.slots]
        lines += [f"  hyper {h}" for h in self.hypers]
        lines += [f"  cell {name} <- {e}" for name, e in self.cells]
        for number, part in enumerate(self.passes):
            lines.append(f"  pass {number}" + (f" over every {part.every}th element" * (part.every > 1)))
            lines += [f"    s{i} = {e}" for i, e in enumerate(part.scalars)]
            lines += [f"    {v.name} <- {'sum of ' * v.total}{v.expr}" for v in part.vectors]
            lines += [f"    {name} <- {e}" for name, e in part.outputs]
            lines += [
                f"    {sum_name(part.first_sum + i)} = sum over {s.scope} of {s.expr}"
                for i, s in enumerate(part.sums)
            ]
        return "\n".join(lines)

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides the machine code, exact to the last bit of every constant."""
        lines = [self.name, self.compute, repr(self.slots), repr(self.hypers), repr(self.counts)]
        roots = [e for part in self.passes for e in (*part.scalars, *part.roots)]
        roots += [v.expr for part in self.passes for v in part.vectors]
        roots += [e for _, e in self.cells]
        number = {item: i for i, item in enumerate(walk(roots))}
        for item, i in number.items():
            value = item.value.hex() if item.op == "const" else item.name
            lines.append(f"{i} {item.op} {item.kind} {value} {[number[a] for a in item.args]}")
        lines += [f"cell {name} {number[e]}" for name, e in self.cells]
        for part in self.passes:
            lines += [f"scalar {number[e]}" for e in part.scalars]
            lines += [f"{name} {number[e]}" for name, e in part.outputs]
            lines += [f"sum {s.scope} {number[s.expr]}" for s in part.sums]
            lines += [f"vector {v.name} {number[v.expr]} {v.total}" for v in part.vectors]
            lines.append(f"every {part.every}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
