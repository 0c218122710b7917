"""What a rule must not be called, so that its class, its groups and its checkpoints stay unambiguous."""

from __future__ import annotations

from collections.abc import Iterator

from kudari.compile.notation import Hyper, Rule
from kudari.errors import RuleError, did_you_mean
from kudari.optim.hypers import COMMON

_GROUP = ("params", "param_names", "name", "closure", "self")


def admit(rule: object) -> Rule:
    """The rule, if an optimizer class can be made of it.

    Raises:
        RuleError: it is no rule, or a name or a default of it is not usable.
    """
    if not isinstance(rule, Rule):
        raise RuleError(
            f"{getattr(rule, '__name__', rule)!r} is not a rule.",
            fix="Decorate the function: @rule(name='MyRule', source='...').",
        )
    for what, fix in _faults(rule):
        raise RuleError(f"{rule.name}: {what}", fix=fix)
    return rule


def _faults(rule: Rule) -> Iterator[tuple[str, str]]:
    """What is wrong, and what to do about it."""
    if not rule.name.isidentifier():
        yield "its name is that of a class, and no Python name.", "Call it like a class: name='MyRule'."
    numbers = {d.name: d for d in rule.declared}
    for name in numbers:
        if name in COMMON or name in _GROUP:
            kind = "a keyword of every optimizer" if name in COMMON else "a key of every parameter group"
            yield f"the argument {name!r} is {kind}.", "Give it another name."
    choices = [*numbers, *(k.name for k in rule.kinds)]
    keys = [s.key for s in rule.states]
    for state in rule.states:
        if keys.count(state.key) > 1:
            yield f"two states are kept as {state.key!r}.", "Give each a key of its own: state('key')."
        if state.key == "step":
            yield "a state is kept as 'step', where the count of steps is.", "Give it another key."
        for word, known in (("when", choices), ("unless", choices), ("every", [*numbers])):
            name = getattr(state, word)
            if name and name not in known:
                verb = "has" if word == "every" else "exists"
                yield (
                    f"state {state.key!r} {verb} {word}={name!r}, which it does not declare."
                    f"{did_you_mean(name, known)}",
                    "Name one of its options, kinds or hyper-parameters.",
                )
        if state.shape == "factors":
            starts, fix = ["zeros", "identity"], "Use 'zeros' or 'identity' for a list of matrices."
        else:
            starts = ["zeros", "copy", *numbers]
            fix = "Use 'zeros', 'copy', a number, or the name of a hyper-parameter."
        if isinstance(state.init, str) and state.init not in starts:
            hint = did_you_mean(state.init, starts)
            yield f"state {state.key!r} starts with init={state.init!r}.{hint}", fix
    for declared in rule.hypers:
        yield from _default(declared)


def _default(declared: Hyper) -> Iterator[tuple[str, str]]:
    default = declared.default
    for value in default if isinstance(default, tuple) else (default,):
        if value is not None and not declared.allows(value):
            text = declared.range_text(declared.name)
            yield f"the default {declared.name}={default!r} is outside its own range.", f"Expected {text}."
