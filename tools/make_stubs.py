"""Write ``optim/__init__.pyi`` from the rules, so that editors know every class and argument.

Run it after adding or changing a rule (``make stubs``); a test fails while the file is stale.
"""

from __future__ import annotations

import inspect
import math
import sys
from pathlib import Path

from kudari.compile.notation import Hyper
from kudari.optim import get, rules
from kudari.optim.hypers import CHOICES, signature

TARGET = Path(__file__).parents[1] / "src/kudari/optim/__init__.pyi"
HEAD = """# Made by `make stubs` from kudari/rules; do not edit.

from torch import Tensor

from kudari.compile.notation import Rule as Rule
from kudari.optim.catalogue import get as get
from kudari.optim.catalogue import names as names
from kudari.optim.catalogue import rules as rules
from kudari.optim.describe import Description as Description
from kudari.optim.describe import describe as describe
from kudari.optim.fused import averaged as averaged
from kudari.optim.fused import fuse as fuse
from kudari.optim.fused import grad_norm as grad_norm
from kudari.optim.release import GradientRelease as GradientRelease
from kudari.optim.assignments import Assignment as Assignment
from kudari.optim.assignments import assign as assign
from kudari.optim.groups import groups as groups
from kudari.optim.groups import groups_table as groups_table
from kudari.optim.bound_group import EagerFallbackWarning as EagerFallbackWarning
from kudari.optim.faces import AveragingOptimizer as AveragingOptimizer
from kudari.optim.faces import EstimatedHessianOptimizer as EstimatedHessianOptimizer
from kudari.optim.faces import GradientHessianOptimizer as GradientHessianOptimizer
from kudari.optim.optimizer import Params as Params
from kudari.optim.optimizer import RuleOptimizer as RuleOptimizer
from kudari.optim.make import make_class as make_class
"""
COMMON = {"foreach": "bool | None", "fused": "bool | None"} | {
    name: f"Literal[{', '.join(map(repr, values))}]"
    for name, values in CHOICES.items()
    if set(values) != {False, True}
}


def annotation(declared: object, name: str) -> str:
    """The type of an argument."""
    if isinstance(declared, Hyper):
        if isinstance(declared.default, tuple):
            parts = ["float" if part is not None else "float | None" for part in declared.default]
            return f"tuple[{', '.join(parts)}]"
        text = "float | Tensor" if name == "lr" else "float"
        return f"{text} | None" if declared.optional else text
    choices = getattr(declared, "choices", None)
    if choices and set(choices) != {False, True}:
        return f"Literal[{', '.join(map(repr, choices))}]"
    return COMMON.get(name, "bool")


def stub() -> str:
    """The whole file."""
    parts: list[str] = []
    for rule in rules():
        declared = {d.name: d for d in rule.declared}
        base = get(rule.name).__base__.__name__
        lines = [f"class {rule.name}({base}):", "    def __init__(", "        self,"]
        starred = False
        for p in signature(rule).parameters.values():
            if p.name == "params":
                lines.append("        params: Params,")
                continue
            if p.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
                lines.append("        *,")
                starred = True
            plain = isinstance(p.default, (bool, int, float, str, type(None))) and p.default != math.inf
            value = repr(p.default) if plain else "..."
            lines.append(f"        {p.name}: {annotation(declared.get(p.name), p.name)} = {value},")
        parts.append("\n".join([*lines, "    ) -> None: ..."]))
    body = "\n\n".join(parts) + "\n"
    return (
        (
            HEAD.replace("\nfrom torch", "from typing import Literal\n\nfrom torch", 1)
            if "Literal[" in body
            else HEAD
        )
        + "\n"
        + body
    )


if __name__ == "__main__":
    if "--check" in sys.argv and TARGET.read_text(encoding="utf-8") != stub():
        sys.exit("src/kudari/optim/__init__.pyi is stale; run: make stubs")
    TARGET.write_text(stub(), encoding="utf-8")
