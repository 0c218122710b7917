"""Programs: what a kernel does to one element, with every number that is the same for a tensor taken out.

A program is one or more passes over memory. A rule with a norm or a mean in it needs a pass that sums before
the pass that uses the sum.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, cast

from kudari.compile.codecs import CODECS, Code, Codec
from kudari.compile.expression import Expr, walk

Float = Literal["f64", "f32", "bf16", "f16"]
Storage = Float | Code
BYTES: dict[Float, int] = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2}
STORED_BYTES: dict[str, float] = {
    **{str(name): float(size) for name, size in BYTES.items()},
    **{str(name): codec.bytes_per_element for name, codec in CODECS.items()},
}

# Numbers that are not hyper-parameters: the step count, the number of elements, and the i-th sum.
SPECIAL = ("t", "numel")


def sum_name(index: int) -> str:
    """Name of a sum where expressions use its value."""
    return f"#{index}"


@dataclass(frozen=True)
class Slot:
    """A tensor argument as the kernel sees it."""

    name: str
    dtype: Storage

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
        scope: over one tensor, or over all tensors of the optimizer.
    """

    expr: Expr
    scope: Literal["tensor", "model"]


@dataclass(frozen=True)
class Pass:
    """One reading of memory.

    Attributes:
        scalars: numbers of a tensor, computed in float64 before the pass, from hyper-parameters, ``t``,
            ``numel`` and the sums of earlier passes.
        outputs: new value of each slot written, in terms of slots, ``s0, s1, ...`` and constants.
        sums: what the pass adds up; ``first_sum`` is the program-wide index of the first.
    """

    scalars: tuple[Expr, ...]
    outputs: tuple[tuple[str, Expr], ...]
    sums: tuple[Sum, ...] = ()
    first_sum: int = 0

    @property
    def roots(self) -> tuple[Expr, ...]:
        """Everything computed for each element."""
        return (*(e for _, e in self.outputs), *(s.expr for s in self.sums))

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the slots read, each once."""
        return tuple(dict.fromkeys(e.name for e in walk(self.roots) if e.op == "slot"))

    @property
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
    """

    name: str
    slots: tuple[Slot, ...]
    hypers: tuple[str, ...]
    passes: tuple[Pass, ...]
    compute: Literal["f64", "f32"]
    cells: tuple[tuple[str, Expr], ...] = ()

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

    @property
    def draws(self) -> bool:
        """Whether an expression asks for random bits."""
        return any(part.draws for part in self.passes)

    @property
    def columns(self) -> int:
        """Words in a tensor's row of the pointer table: slots, scales of coded slots, key of random bits."""
        return len(self.slots) + len(self.coded) + self.draws

    @property
    def in_order(self) -> bool:
        """Whether it matters which element is which, so that tensors must be contiguous."""
        return bool(self.coded)

    @property
    def scalars_per_tensor(self) -> int:
        """Numbers in a tensor's row of the table, at most over the passes."""
        return max(len(part.scalars) for part in self.passes)

    @property
    def bytes_per_parameter(self) -> float:
        """Bytes read and written for each element, over all passes."""
        size = {s.name: STORED_BYTES[s.dtype] for s in self.slots}
        return sum(size[name] for part in self.passes for name in (*part.reads, *part.writes))

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
            lines.append(f"  pass {number}")
            lines += [f"    s{i} = {e}" for i, e in enumerate(part.scalars)]
            lines += [f"    {name} <- {e}" for name, e in part.outputs]
            lines += [
                f"    {sum_name(part.first_sum + i)} = sum over {s.scope} of {s.expr}"
                for i, s in enumerate(part.sums)
            ]
        return "\n".join(lines)

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides the machine code, exact to the last bit of every constant."""
        lines = [self.name, self.compute, repr(self.slots), repr(self.hypers)]
        roots = [e for part in self.passes for e in (*part.scalars, *part.roots)]
        roots += [e for _, e in self.cells]
        number = {item: i for i, item in enumerate(walk(roots))}
        for item, i in number.items():
            value = item.value.hex() if item.op == "const" else item.name
            lines.append(f"{i} {item.op} {value} {[number[a] for a in item.args]}")
        lines += [f"cell {name} {number[e]}" for name, e in self.cells]
        for part in self.passes:
            lines += [f"scalar {number[e]}" for e in part.scalars]
            lines += [f"{name} {number[e]}" for name, e in part.outputs]
            lines += [f"sum {s.scope} {number[s.expr]}" for s in part.sums]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
