"""What the command line knows about optimizers: read from their rules, without torch."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import kudari.rules
from kudari.compile.discover import discover
from kudari.compile.notation import Hyper, Option, Rule
from kudari.errors import ArgumentError, did_you_mean


@functools.cache
def rules() -> Mapping[str, Rule]:
    """Every rule by the name used in configurations: its class's name in lower case."""
    return {rule.name.lower(): rule for rule in discover(kudari.rules)}


def find_rule(name: str) -> Rule:
    """The rule of a name; case, ``-`` and ``_`` make no difference.

    Raises:
        ArgumentError: there is no such optimizer.
    """
    wanted = plain_name(name)
    if wanted not in rules():
        raise ArgumentError(unknown_optimizer(name), fix="`kudari optim list` prints all of them.")
    return rules()[wanted]


def settings(rule: Rule) -> dict[str, Hyper | Option]:
    """Everything a rule can be told, by name."""
    declared: list[Hyper | Option] = [*rule.hypers, *rule.options]
    return {d.name: d for d in declared}


def plain_name(name: str) -> str:
    """``AdamW``, ``adam_w`` and ``adamw`` are one optimizer."""
    return name.lower().replace("-", "").replace("_", "")


def unknown_optimizer(name: str) -> str:
    """The sentence for a name that no rule has."""
    known = ", ".join(rules())
    return f"there is no optimizer {name!r}.{did_you_mean(plain_name(name), rules())} There are: {known}."


def check_optimizer(name: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for everything wrong with an optimizer's name and hyper-parameters."""
    if plain_name(name) not in rules():
        yield "name", unknown_optimizer(name)
        return
    rule = find_rule(name)
    declared = settings(rule)
    sound = True
    for key, value in values.items():
        if key not in declared:
            takes = ", ".join(declared)
            yield (
                key,
                f"{rule.name} has no such hyper-parameter.{did_you_mean(key, declared)} It takes {takes}.",
            )
            sound = False
        elif message := _wrong(declared[key], value):
            yield key, message
            sound = False
    if sound:
        full = {**{k: d.default for k, d in declared.items()}, **values}
        for condition, message in rule.requires:
            if not condition(full):
                yield "name", f"{rule.name}: {message}."


def _wrong(declared: Hyper | Option, value: Any) -> str:
    """What is wrong with one value, empty if nothing."""
    if isinstance(declared, Option):
        if any(value == choice and type(value) is type(choice) for choice in declared.choices):
            return ""
        return f"is {_shown(value)}; it must be {' or '.join(_shown(c) for c in declared.choices)}."
    if value is None and declared.optional:
        return ""
    if isinstance(declared.default, tuple):
        size = len(declared.default)
        if not isinstance(value, (list, tuple)) or len(value) != size:
            return f"is {value!r}; it must be a list of {size} numbers such as {list(declared.default)}."
        parts = [
            _out_of_range(declared, f"{declared.name}[{i}]", part)
            for i, (part, default) in enumerate(zip(value, declared.default, strict=True))
            if part is not None or default is not None
        ]
        return next((part for part in parts if part), "")
    return _out_of_range(declared, declared.name, value)


def _out_of_range(declared: Hyper, label: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"is {_shown(value)}; it must be a number."
    if declared.allows(value):
        return ""
    return f"is {value}; allowed is {declared.range_text(label)}."


def _shown(value: Any) -> str:
    """As it would be written in YAML."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value)
