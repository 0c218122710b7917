"""Programs: what a kernel does to one element, with every number that is the same for a tensor taken out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from kudari.compile.expression import Expr, walk

Float = Literal["f64", "f32", "bf16", "f16"]
BYTES: dict[Float, int] = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2}


@dataclass(frozen=True)
class Slot:
    """A tensor argument as the kernel sees it."""

    name: str
    dtype: Float
    reads: bool
    writes: bool


@dataclass(frozen=True)
class Program:
    """An elementwise update, ready to be printed to a target.

    Attributes:
        name: the rule's name, for symbols and messages.
        slots: tensors, in the order of the pointer table.
        hypers: names of the numbers handed over at each step, in order.
        scalars: expressions of those numbers, computed in float64 once per tensor and step.
        outputs: new value of each written slot, in terms of slots, ``s0, s1, ...`` and constants.
        compute: type of the arithmetic.
    """

    name: str
    slots: tuple[Slot, ...]
    hypers: tuple[str, ...]
    scalars: tuple[Expr, ...]
    outputs: tuple[tuple[str, Expr], ...]
    compute: Literal["f64", "f32"]

    @property
    def bytes_per_parameter(self) -> int:
        """Bytes read and written for each element, each array once."""
        return sum(BYTES[s.dtype] * (s.reads + s.writes) for s in self.slots)

    def __str__(self) -> str:
        lines = [f"program {self.name} ({self.compute})"]
        lines += [f"  slot {s.name}: {s.dtype}{' read' * s.reads}{' write' * s.writes}" for s in self.slots]
        lines += [f"  hyper {h}" for h in self.hypers]
        lines += [f"  s{i} = {e}" for i, e in enumerate(self.scalars)]
        lines += [f"  {name} <- {e}" for name, e in self.outputs]
        return "\n".join(lines)

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides the machine code, exact to the last bit of every constant."""
        lines = [self.name, self.compute, repr(self.slots), repr(self.hypers)]
        roots = [*self.scalars, *(e for _, e in self.outputs)]
        number = {item: i for i, item in enumerate(walk(roots))}
        for item, i in number.items():
            value = item.value.hex() if item.op == "const" else item.name
            lines.append(f"{i} {item.op} {value} {[number[a] for a in item.args]}")
        lines += [f"scalar {number[e]}" for e in self.scalars]
        lines += [f"{name} {number[e]}" for name, e in self.outputs]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
