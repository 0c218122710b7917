"""A rule as people read it: docstring, formula, states and the bytes a step moves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kudari.compile.cut import Call, cut
from kudari.compile.formula import formula_latex, formula_text
from kudari.compile.lower import lower
from kudari.compile.notation import Hyper, Option, Rule
from kudari.compile.program import Float, Program
from kudari.compile.stage import find
from kudari.compile.trace import trace


@dataclass(frozen=True)
class Description:
    """What ``kudari optim show`` prints.

    Attributes:
        name, summary, source, typical: sentences about the rule.
        formula: LaTeX, an ``aligned`` block without dollar signs.
        text: the formula in ASCII, one assignment a line.
        hypers: (name, default, allowed range) of every hyper-parameter and option.
        states: names of the states with default options.
        bytes_per_parameter: bytes that a float32 step reads and writes for each element, stages left out.
        passes: tensors read and written in each pass over memory: ``p g m v / p m v``; of a stage, what it
            reads and what it makes of it: ``newton_schulz u -> o``.
        kinds: (tensors, passes, bytes) for each kind of tensors, where the rule tells them apart; the first
            kind is the one that everything else here describes.
        stages: (name, what it costs for an m x n matrix, m <= n) of each stage.
        differs: where the rule differs from the paper or from torch.
    """

    name: str
    summary: str
    source: str
    typical: str
    formula: str
    text: tuple[str, ...]
    hypers: tuple[tuple[str, str, str], ...]
    states: tuple[str, ...]
    bytes_per_parameter: int
    passes: str
    kinds: tuple[tuple[str, str, int], ...]
    stages: tuple[tuple[str, str], ...]
    differs: tuple[str, ...]


def defaults(rule: Rule) -> dict[str, Any]:
    """Default value of every hyper-parameter and option."""
    return {d.name: d.default for d in rule.declared}


def pieces(
    rule: Rule, config: Mapping[str, Any] | None = None, dtype: Float = "f32"
) -> tuple[Program | Call, ...]:
    """The rule lowered for parameters, gradients and states of one dtype, cut at its stages."""
    found = cut(trace(rule, {**defaults(rule), **(config or {})}))
    return tuple(p if isinstance(p, Call) else lower(p, dict.fromkeys(p.slots, dtype)) for p in found)


def program(rule: Rule, config: Mapping[str, Any] | None = None, dtype: Float = "f32") -> Program:
    """The program of a rule without stages, for parameters, gradients and states of one dtype."""
    [found] = pieces(rule, config, dtype)
    assert isinstance(found, Program)
    return found


def programs(rule: Rule, config: Mapping[str, Any] | None = None) -> tuple[Program, ...]:
    """The rule's float32 programs: one, or one for each part between stages."""
    return tuple(piece for piece in pieces(rule, config) if isinstance(piece, Program))


def describe(rule: Rule, config: Mapping[str, Any] | None = None) -> Description:
    """Describe a rule, with its default options unless ``config`` says otherwise."""
    config = {**defaults(rule), **{k.name: k.about[0][0] for k in rule.kinds}, **(config or {})}
    traced, found = trace(rule, config), pieces(rule, config)
    calls = [find(piece.name)[0] for piece in found if isinstance(piece, Call)]
    return Description(
        name=rule.name,
        summary=rule.summary,
        source=rule.source,
        typical=rule.typical,
        formula=formula_latex(rule, traced),
        text=formula_text(traced),
        hypers=tuple((d.name, repr(d.default), allowed(d)) for d in rule.declared),
        states=(
            *(["step"] if rule.keeps_count(config) else []),
            *(s.key for s in rule.active_states(config)),
        ),
        bytes_per_parameter=_bytes(found),
        passes=_plan(found),
        kinds=_kinds(rule, config),
        stages=tuple((s.name, s.costs) for s in dict.fromkeys(calls)),
        differs=rule.differs,
    )


def _kinds(rule: Rule, config: Mapping[str, Any]) -> tuple[tuple[str, str, int], ...]:
    rows = []
    for values in itertools.product(*(k.about for k in rule.kinds)) if rule.kinds else ():
        chosen = {k.name: value for k, (value, _) in zip(rule.kinds, values, strict=True)}
        found = pieces(rule, {**config, **chosen})
        rows.append(("; ".join(text for _, text in values), _plan(found), _bytes(found)))
    return tuple(rows)


def _plan(found: Sequence[Program | Call]) -> str:
    return "; then ".join(p.plan() if isinstance(p, Program) else str(p) for p in found)


def _bytes(found: Sequence[Program | Call]) -> int:
    return round(sum(p.bytes_per_parameter for p in found if isinstance(p, Program)))


def allowed(declared: Hyper | Option) -> str:
    """The values that are accepted, in words."""
    if isinstance(declared, Option):
        return " or ".join(map(repr, declared.choices))
    if isinstance(declared.default, tuple):
        return f"{len(declared.default)} numbers, each {declared.range_text('x')}"
    text = declared.range_text(declared.name)
    text = "any number" if text == declared.name else text
    return f"{text}, or None" if declared.optional else text


def docstring(rule: Rule) -> str:
    """The class's docstring, from what the rule declares."""
    lines = [rule.summary, "", f"Source: {rule.source}.", "", "Args:"]
    lines.append("    params: tensors, group dicts, or (name, tensor) pairs.")
    lines += [f"    {d.name}: {allowed(d)} (default: {d.default!r})." for d in rule.declared]
    lines.append("    maximize: follow the gradient upwards (default: False).")
    lines.append("    foreach, fused, capturable: accepted as in torch; they change no result.")
    if rule.typical:
        lines += ["", f"Typical: {rule.typical}."]
    lines += ["", *(f"Differs: {text}" for text in rule.differs)] if rule.differs else []
    lines += ["", "Raises:", "    HyperError: a value is outside its range (a ``ValueError``)."]
    return "\n".join(lines)
