"""What an optimizer accepts: its constructor's signature, and the check of every value it is given."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from kudari.compile.extend import CLIP, DECAY
from kudari.compile.notation import Hyper, Rule
from kudari.compile.rounding import ROUNDINGS
from kudari.errors import HyperError, did_you_mean
from kudari.optim.states import STATE_DTYPES

# Keywords of every class, with torch's meaning; `foreach` and `fused` are hints and change no result.
COMMON: dict[str, Any] = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
    "state_dtype": "fp32",
    "rounding": "nearest",
    "skip_nonfinite": False,
}
# Those of them that are one of several values.
CHOICES: dict[str, tuple[Any, ...]] = {
    "state_dtype": STATE_DTYPES,
    "rounding": ROUNDINGS,
    "skip_nonfinite": (False, True),
}


def signature(rule: Rule) -> inspect.Signature:
    """The constructor's signature: torch's order, with what torch does not have after the star."""
    kind = inspect.Parameter
    ordered = rule.declared
    parameters = [kind("params", kind.POSITIONAL_OR_KEYWORD)]
    parameters += [
        kind(d.name, kind.POSITIONAL_OR_KEYWORD, default=d.default) for d in ordered if not d.keyword_only
    ]
    parameters += [kind(name, kind.POSITIONAL_OR_KEYWORD, default=COMMON[name]) for name in rule.positional]
    parameters += [kind(d.name, kind.KEYWORD_ONLY, default=d.default) for d in ordered if d.keyword_only]
    parameters += [
        kind(name, kind.KEYWORD_ONLY, default=value)
        for name, value in COMMON.items()
        if name not in rule.positional
    ]
    return inspect.Signature(parameters)


def bind(rule: Rule, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The arguments by name, defaults filled in; a misspelt one is named with what may be meant."""
    known = list(signature.parameters)
    for name in kwargs:
        if name not in known:
            hint = did_you_mean(name, known) or f" It takes {', '.join(known[1:])}."
            raise TypeError(f"{rule.name} has no argument {name!r}.{hint}")
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _refuse(rule: Rule, label: str, value: object, expected: str) -> HyperError:
    return HyperError(f"{rule.name}: {label}={value!r} is not allowed; expected {expected}")


def check(rule: Rule, group: Mapping[str, Any]) -> None:
    """Check a group's values.

    Raises:
        HyperError: naming class, parameter, value and allowed range.
    """
    for declared in rule.hypers:
        check_hyper(rule, declared, group[declared.name])
    for extra in (CLIP, DECAY):
        check_hyper(rule, extra, group.get(extra.name))
    for choice in rule.options:
        if choice.plain(group[choice.name]) not in choice.choices:
            allowed = " or ".join(map(repr, choice.choices))
            raise _refuse(rule, choice.name, group[choice.name], allowed)
    for name, choices in CHOICES.items():
        if group.get(name, choices[0]) not in choices:
            raise _refuse(rule, name, group[name], " or ".join(map(repr, choices)))
    for name, value in rule.fixed:
        if group.get(name, value) != value:
            raise _refuse(rule, name, group[name], repr(value))
    if group.get("differentiable"):
        raise HyperError(
            f"{rule.name}: differentiable=True is not allowed; expected False.",
            why="The step runs in fused kernels, which autograd cannot look into.",
            fix="Use torch.func or torch.optim to differentiate through a step.",
        )
    for condition, message in rule.requires:
        if not condition(group):
            raise HyperError(f"{rule.name}: {message.format_map(group)}")


def check_shared(rule: Rule, groups: Sequence[Mapping[str, Any]]) -> None:
    """Check that what all groups must share is one number, frozen groups left out.

    Raises:
        HyperError: naming class, parameter and both values.
    """
    taking_part = [g for g in groups if rule.frozen is None or not rule.frozen(g)]
    for name in rule.shared:
        found = dict.fromkeys(float(g[name]) for g in taking_part)
        if len(found) > 1:
            first, second, *_ = found
            raise HyperError(
                f"{rule.name}: {name}={first!r} and {name}={second!r} are not allowed; expected one {name} "
                "for all groups, or 0 to freeze one",
                why="It scales an estimate that is made over all groups together.",
            )


def check_hyper(rule: Rule, declared: Hyper, value: Any) -> None:
    """Check one value; see :func:`check`."""
    if value is None and declared.optional:
        return
    if isinstance(declared.default, tuple):
        size = len(declared.default)
        if not isinstance(value, (tuple, list)) or len(value) != size:
            raise _refuse(rule, declared.name, value, f"{size} numbers")
        for index, part in enumerate(value):
            if part is None and declared.default[index] is None:
                continue
            _check_number(rule, declared, f"{declared.name}[{index}]", part)
    else:
        _check_number(rule, declared, declared.name, value)


def _check_number(rule: Rule, declared: Hyper, label: str, value: Any) -> None:
    if getattr(value, "numel", lambda: 1)() != 1:
        raise _refuse(rule, label, value, "a number or a tensor with one element")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _refuse(rule, label, value, f"a number with {declared.range_text(label)}") from None
    if not declared.allows(number):
        raise _refuse(rule, label, number if hasattr(value, "item") else value, declared.range_text(label))
