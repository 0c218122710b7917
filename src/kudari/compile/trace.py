"""The tracer: runs a rule once with expressions for arguments and keeps what it computed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kudari.compile.expression import Expr, Kind, hyper, slot, walk
from kudari.compile.notation import Hyper, Rule, State, Step
from kudari.errors import RuleError


@dataclass(frozen=True)
class Trace:
    """A rule under one choice of its options.

    Attributes:
        name: the rule's name.
        states: the states that exist under these options and are tensors.
        outputs: new value of each tensor that changes, ``p`` first.
        names: local variables of the rule that are expressions, in the order they appear.
        hypers: names of all numbers the rule was given, ``t`` last if it counts steps.
        cells: the states that are one number a tensor, with their new values.
        running: new value of each number of the group that changes.
        every: for each state that has every k-th element, k; those with all are left out.
        factors: the states that are lists of matrices, with their new values.
        measures: names of the numbers that each tensor has by its shape.
    """

    name: str
    states: tuple[State, ...]
    outputs: tuple[tuple[str, Expr], ...]
    names: tuple[tuple[str, Expr], ...]
    hypers: tuple[str, ...]
    cells: tuple[tuple[State, Expr], ...] = ()
    running: tuple[tuple[str, Expr], ...] = ()
    every: tuple[tuple[str, int], ...] = ()
    factors: tuple[tuple[State, Expr], ...] = ()
    measures: tuple[str, ...] = ()

    @property
    def slots(self) -> tuple[str, ...]:
        """Every tensor argument: the parameter, the gradient, the states."""
        return ("p", "g", *(s.name for s in self.states))


def parts(declared: Hyper) -> tuple[str, ...]:
    """Names of the numbers in a hyper-parameter: ``betas`` has ``betas[0]`` and ``betas[1]``."""
    if isinstance(declared.default, tuple):
        return tuple(f"{declared.name}[{i}]" for i in range(len(declared.default)))
    return (declared.name,)


_KINDS: dict[str, Kind] = {"elements": "tensor", "rows": "row", "columns": "column", "factors": "factors"}


def _argument(declared: Hyper, config: Mapping[str, Any]) -> Any:
    value = config.get(declared.name, declared.default)
    if declared.optional and value is None:
        return None
    if isinstance(declared.default, tuple):
        return tuple(
            None if part is None else hyper(name) for name, part in zip(parts(declared), value, strict=True)
        )
    return hyper(declared.name)


def _numbers(given: Any, declared: Hyper) -> list[str]:
    """The numbers handed over for a hyper-parameter: those that are not None."""
    values = given if isinstance(given, tuple) else (given,)
    return [name for name, value in zip(parts(declared), values, strict=True) if value is not None]


def trace(
    rule: Rule,
    config: Mapping[str, Any],
    *,
    maximize: bool = False,
    unscale: bool = False,
    formula: str = "",
) -> Trace:
    """Run the rule on expressions.

    Args:
        rule: the rule.
        config: a group's values and a tensor's kinds; of the numbers, only which are None matters here.
            A kind that is missing has its first value.
        maximize: the gradient stands for its negative everywhere.
        unscale: the gradient is divided by a number called ``grad_scale``.
        formula: which of the rule's formulas beside the step; empty for the step itself.

    Raises:
        RuleError: if the rule does not return new values for its own tensors.
    """
    function = dict(rule.formulas)[formula] if formula else rule.function
    config = {**{k.name: k.about[0][0] for k in rule.kinds}, **config}
    taken = inspect.signature(function).parameters
    active = rule.active_states(config)
    tensors = tuple(s for s in active if not s.scalar and s.shape != "factors")
    inputs = {"p": slot("p"), "g": slot("g")}
    inputs |= {s.name: hyper(s.name) if s.scalar else slot(s.name, _KINDS[s.shape]) for s in active}
    given: dict[str, Any] = {s.name: inputs.get(s.name) for s in rule.states}
    given |= {"p": inputs["p"], "g": _gradient(maximize, unscale), "t": hyper("t")}
    given |= {h.name: _argument(h, config) for h in rule.hypers}
    given |= {o.name: o.plain(config[o.name]) for o in rule.options}
    given |= {k.name: config[k.name] for k in rule.kinds}
    given |= {r.name: hyper(r.name) for r in rule.running}
    given |= {m.name: hyper(m.name) for m in rule.measures}
    step = function(**{name: given[name] for name in taken})
    _check(rule, step, active, formula)
    names = tuple((k, v) for k, v in step.names.items() if isinstance(v, Expr) and v is not inputs.get(k))
    numbers = [n for h in rule.hypers if h.name in taken for n in _numbers(given[h.name], h)]
    numbers += [r.name for r in rule.running if r.name in taken]
    return Trace(
        name=rule.name,
        states=tensors,
        outputs=tuple(
            (n, step.new[n])
            for n in ("p", *(s.name for s in tensors), "g")
            if n in step.new and (step.new[n] is not inputs[n] or n == "p")
        ),
        names=tuple((k, v) for k, v in names if v.op != "hyper"),
        hypers=(*numbers, *(["grad_scale"] if unscale else []), *(["t"] if "t" in taken else [])),
        cells=tuple((s, step.new.get(s.name, inputs[s.name])) for s in active if s.scalar),
        running=tuple((r.name, step.new[r.name]) for r in rule.running if r.name in step.new),
        every=tuple((s.name, int(config[s.every])) for s in tensors if s.every and config[s.every] != 1),
        factors=tuple((s, step.new[s.name]) for s in active if s.shape == "factors" and s.name in step.new),
        measures=tuple(m.name for m in rule.measures if m.name in taken),
    )


# What may be given to a state of each shape: as many values as it has, or fewer.
_ROOM: dict[str, tuple[Kind, ...]] = {
    "elements": ("scalar", "batch", "row", "column", "tensor"),
    "rows": ("scalar", "batch", "row"),
    "columns": ("scalar", "batch", "column"),
}


def _gradient(maximize: bool, unscale: bool) -> Expr:
    g = slot("g") / hyper("grad_scale") if unscale else slot("g")
    return -g if maximize else g


def _check(rule: Rule, step: Step, active: tuple[State, ...], formula: str) -> None:
    if not isinstance(step, Step):
        raise RuleError(
            f"{rule.name} returned {type(step).__name__}, not a Step.",
            fix="Return Step(p=new_p, m=new_m): the new value of every tensor that changes.",
        )
    kept = {s.name for s in active} | {r.name for r in rule.running} | ({"g"} if rule.clears else set())
    if "g" in step.new and not rule.clears:
        raise RuleError(
            f"{rule.name} returns a new value for g.",
            why="The gradient belongs to the caller, who may read it after the step.",
            fix="Leave g out of Step(...); keep what you need in a state.",
        )
    unknown = sorted(set(step.new) - kept - {"p"})
    if unknown or ("p" not in step.new and not formula):
        raise RuleError(
            f"{rule.name} returns values for {sorted(step.new)}; "
            f"its tensors are {sorted(kept | {'p'})}, and p must be among them.",
            fix="Name the keywords of Step(...) after the arguments of the rule.",
        )
    for s in active:
        if s.name in step.new and (step.new[s.name].kind == "factors") is not (s.shape == "factors"):
            raise RuleError(
                f"{rule.name} gives {s.name}, which is {s.shape}, the value {step.new[s.name]}.",
                fix="Give a list of matrices what a stage makes of it, and a tensor the value of a formula.",
            )
    room: dict[str, tuple[Kind, ...]] = {r.name: ("scalar",) for r in rule.running}
    room |= {s.name: ("scalar",) if s.scalar else _ROOM[s.shape] for s in active if s.shape != "factors"}
    for name, kinds in room.items():
        if name in step.new and step.new[name].kind not in kinds:
            spread = "element" if step.new[name].kind == "tensor" else step.new[name].kind
            raise RuleError(
                f"{rule.name} gives {name} a value for every {spread}, but it is one number"
                f"{'' if kinds[-1] == 'scalar' else f' for each {kinds[-1]}'}.",
                fix="Declare it as a state with as many values, or compute it from what has as few.",
            )
    for_each = ("p", *(s.name for s in active if s.shape == "elements" and not s.scalar))
    flat = [n for n in for_each if _is_number(step.new.get(n))]
    if flat:
        raise RuleError(
            f"{rule.name} gives {flat[0]} one number for the whole tensor.",
            fix=f"Give it a value for every element, such as 0 * {flat[0]} + number.",
        )
    own = {"t", *(s.name for s in active if s.scalar)}
    mixed = [r.name for r in rule.running if own & _numbers_in(step.new.get(r.name))]
    if mixed:
        raise RuleError(
            f"{rule.name} computes {mixed[0]}, a number of the group, from one that each tensor has.",
            fix="Compute it from hyper-parameters and running numbers alone.",
        )
    here = {s.name for s in active if not s.changed_by} | {r.name for r in rule.running}
    missing = sorted(here - set(step.new))
    if missing and not formula:
        raise RuleError(
            f"{rule.name} never gives a new value to {', '.join(missing)}.",
            why="A state that is not updated stays at its first value for ever.",
            fix=f"Add {missing[0]}=... to Step(...).",
        )


def _numbers_in(expr: Expr | None) -> set[str]:
    return set() if expr is None else {e.name for e in walk([expr]) if e.op == "hyper"}


def _is_number(new: Expr | float | None) -> bool:
    return new is not None and not (isinstance(new, Expr) and new.kind != "scalar")
