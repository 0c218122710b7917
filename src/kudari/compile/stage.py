"""Stages: named operations on whole tensors, which a rule calls between its elementwise passes.

A stage is opaque to the notation: lowering cuts the rule there (:mod:`kudari.compile.cut`), and at a step the
kernels before it run, then the stage on all tensors at once, then the kernels after it.

Example:
    >>> from kudari.compile.expression import slot
    >>> def halve(works):
    ...     return [(work.values[0] / 2,) for work in works]
    >>> half = Stage("half", halve, values=("x",), costs="m*n operations")
    >>> str(half(slot("g")))
    'half(g)'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kudari.compile.expression import Expr, Operand, lift, stage_value
from kudari.errors import RuleError


@dataclass(frozen=True)
class Work:
    """What a stage is to do for one tensor.

    Attributes:
        values: contiguous tensors of the parameter's shape, float32 or float64, and lists of factors. A stage
            may write to the factors that it changes, and to nothing else.
        numbers: in the order of :attr:`Stage.numbers`.
        variant: which of several ways.
    """

    values: tuple[Any, ...]
    numbers: tuple[float, ...]
    variant: str = ""


@dataclass(frozen=True)
class Stage:
    """A named operation on whole tensors; defining one makes it known by its name.

    Attributes:
        name: what formulas and plans call it.
        run: does the work for several tensors, each on its own: the results do not depend on who else is in
            the list. Returns for each the new values of the first ``changes`` arguments.
        values: names of its tensor arguments, those first that it gives a new value.
        numbers: names of its other arguments.
        changes: how many of its arguments it gives a new value.
        costs: what it takes for an m x n matrix, m <= n, in words.
        latex: how it is typeset, with ``{x}`` for argument x; empty for its name and values.
    """

    name: str
    run: Callable[[Sequence[Work]], list[tuple[Any, ...]]] = field(repr=False)
    values: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    changes: int = 1
    costs: str = ""
    latex: str = ""

    def __post_init__(self) -> None:
        _known[self.name] = self

    def __call__(self, *values: Expr, variant: str = "", when: Operand = 1.0, **numbers: Operand) -> Any:
        """The new values as expressions: one, or a tuple of them.

        Args:
            values: expressions with a value for each element, or lists of factors.
            variant: which of several ways.
            when: a number; where it is 0 the stage is left out and gives back what it was given.
            numbers: one for each of :attr:`numbers`.

        Raises:
            RuleError: the arguments are not those of the stage.
        """
        if len(values) != len(self.values) or set(numbers) != set(self.numbers):
            takes = ", ".join((*self.values, *(f"{n}=..." for n in self.numbers)))
            raise RuleError(
                f"{self.name} was given {len(values)} values and {sorted(numbers)}.",
                fix=f"It takes {self.name}({takes}).",
            )
        if any(not isinstance(v, Expr) or v.kind == "scalar" for v in values):
            raise RuleError(f"{self.name} works on whole tensors, and one of {values} is a number.")
        args = (*values, *(lift(numbers[n]) for n in self.numbers), lift(when))
        name = f"{self.name}:{variant}" if variant else self.name
        found = tuple(stage_value(name, args, i) for i in range(self.changes))
        return found[0] if self.changes == 1 else found


_known: dict[str, Stage] = {}


def find(name: str) -> tuple[Stage, str]:
    """The stage of a name as expressions have it, and the variant behind its colon."""
    stem, _, variant = name.partition(":")
    return _known[stem], variant


def one_by_one(function: Callable[..., Any]) -> Callable[[Sequence[Work]], list[tuple[Any, ...]]]:
    """Make of a function of one tensor's values and numbers what a :class:`Stage` runs."""

    def run(works: Sequence[Work]) -> list[tuple[Any, ...]]:
        found = [
            function(*w.values, *w.numbers, **({"variant": w.variant} if w.variant else {})) for w in works
        ]
        return [x if isinstance(x, tuple) else (x,) for x in found]

    return run
