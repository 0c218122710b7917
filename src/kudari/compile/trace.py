"""The tracer: runs a rule once with expressions for arguments and keeps what it computed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from kudari.compile.expression import Expr, hyper, slot
from kudari.compile.notation import Hyper, Rule, State, Step
from kudari.errors import RuleError


@dataclass(frozen=True)
class Trace:
    """A rule under one choice of its options.

    Attributes:
        name: the rule's name.
        states: the states that exist under these options.
        outputs: new value of each tensor that changes, ``p`` first.
        names: local variables of the rule that are expressions, in the order they appear.
        hypers: names of all numbers the rule was given, ``t`` last if it counts steps.
    """

    name: str
    states: tuple[State, ...]
    outputs: tuple[tuple[str, Expr], ...]
    names: tuple[tuple[str, Expr], ...]
    hypers: tuple[str, ...]

    @property
    def slots(self) -> tuple[str, ...]:
        """Every tensor argument: the parameter, the gradient, the states."""
        return ("p", "g", *(s.name for s in self.states))


def parts(declared: Hyper) -> tuple[str, ...]:
    """Names of the numbers in a hyper-parameter: ``betas`` has ``betas[0]`` and ``betas[1]``."""
    if isinstance(declared.default, tuple):
        return tuple(f"{declared.name}[{i}]" for i in range(len(declared.default)))
    return (declared.name,)


def _argument(declared: Hyper, config: Mapping[str, Any]) -> Any:
    if declared.optional and config.get(declared.name, declared.default) is None:
        return None
    if isinstance(declared.default, tuple):
        return tuple(hyper(name) for name in parts(declared))
    return hyper(declared.name)


def trace(rule: Rule, config: Mapping[str, Any], *, maximize: bool = False, unscale: bool = False) -> Trace:
    """Run the rule on expressions.

    Args:
        rule: the rule.
        config: a group's values; only options, and which optional numbers are None, matter here.
        maximize: the gradient stands for its negative everywhere.
        unscale: the gradient is divided by a number called ``grad_scale``.

    Raises:
        RuleError: if the rule does not return new values for its own tensors.
    """
    active = rule.active_states(config)
    g = slot("g")
    if unscale:
        g = g / hyper("grad_scale")
    if maximize:
        g = -g
    tensors: list[Expr | None] = [slot("p"), g]
    tensors += [slot(s.name) if s in active else None for s in rule.states]
    keywords: dict[str, Any] = {h.name: _argument(h, config) for h in rule.hypers}
    keywords |= {o.name: config[o.name] for o in rule.options}
    if takes_t(rule):
        keywords["t"] = hyper("t")
    step, local = _call(rule.function, tensors, keywords)
    _check(rule, step, tensors)
    order = ("p", *(s.name for s in active))
    inputs = {"p": slot("p"), "g": slot("g")} | {s.name: slot(s.name) for s in active}
    names = tuple((k, v) for k, v in local.items() if isinstance(v, Expr) and v is not inputs.get(k))
    numbers = [n for h in rule.hypers if keywords[h.name] is not None for n in parts(h)]
    return Trace(
        name=rule.name,
        states=active,
        outputs=tuple((n, step.new[n]) for n in order if n in step.new),
        names=tuple((k, v) for k, v in names if v.op != "hyper"),
        hypers=(*numbers, *(["grad_scale"] if unscale else []), *(["t"] if takes_t(rule) else [])),
    )


def takes_t(rule: Rule) -> bool:
    """Whether the formula looks at the step count."""
    return "t" in rule.function.__code__.co_varnames[: _arguments(rule.function)]


def _arguments(function: Callable[..., Any]) -> int:
    code = function.__code__
    return code.co_argcount + code.co_kwonlyargcount


def _call(
    function: Callable[..., Step], tensors: list[Expr | None], keywords: dict[str, Any]
) -> tuple[Step, dict[str, Any]]:
    """Call the rule and read its local variables as it returns: they name the steps of the formula."""
    local: dict[str, Any] = {}

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is function.__code__:
            local.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        step = function(*tensors, **keywords)
    finally:
        sys.setprofile(before)
    return step, local


def _check(rule: Rule, step: Step, tensors: list[Expr | None]) -> None:
    if not isinstance(step, Step):
        raise RuleError(
            f"{rule.name} returned {type(step).__name__}, not a Step.",
            fix="Return Step(p=new_p, m=new_m): the new value of every tensor that changes.",
        )
    known = {"p", *(s.name for s, x in zip(rule.states, tensors[2:], strict=True) if x is not None)}
    if "g" in step.new:
        raise RuleError(
            f"{rule.name} returns a new value for g.",
            why="The gradient belongs to the caller, who may read it after the step.",
            fix="Leave g out of Step(...); keep what you need in a state.",
        )
    unknown = sorted(set(step.new) - known)
    if unknown or "p" not in step.new:
        raise RuleError(
            f"{rule.name} returns values for {sorted(step.new)}; "
            f"its tensors are {sorted(known)}, and p must be among them.",
            fix="Name the keywords of Step(...) after the arguments of the rule.",
        )
    missing = sorted(known - {"p"} - set(step.new))
    if missing:
        raise RuleError(
            f"{rule.name} never gives a new value to {', '.join(missing)}.",
            why="A state that is not updated stays at its first value for ever.",
            fix=f"Add {missing[0]}=... to Step(...).",
        )
