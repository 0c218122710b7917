"""The sections of the page that are words and tables: each takes facts and returns markup."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from kudari.record import Choice, Decayed, Diagnosis, Facts, RunDir
from kudari.report.markup import Child, Markup, element, join
from kudari.report.mathml import NotUnderstood, to_mathml
from kudari.report.numbers import duration, label, metric, number, plural
from kudari.report.series import Event, History, pick
from kudari.report.text import epochs, has_checkpoint, resume_command

DECAY_ROWS = 400
"""Parameters listed by name; a larger model is summed up only."""

PASS_ROWS = 100
"""Validation passes listed in the table of values."""


def section(key: str, title: str, *children: Child) -> Markup:
    """A section with its heading, reachable by ``#key``."""
    return element("section", element("h2", title), children, id=key)


def header(facts: Facts) -> Markup:
    """Name, state and one sentence that says what was done."""
    state = element("span", facts.status, class_=f"state {facts.status}")
    length = join([element("b", plural(facts.steps, "step")), f" ({epochs(facts.epochs)})"])
    lead = join(
        [
            element("b", facts.model),
            ", trained for ",
            length,
            " in ",
            element("b", duration(facts.seconds), class_="nowrap"),
            ".",
        ]
    )
    return element(
        "header",
        element("p", element("span", "Kudari", class_="brand"), " training report", class_="eyebrow"),
        element("h1", facts.title or facts.name),
        element("p", element("code", facts.name), " ", state, class_="run"),
        element("p", lead, class_="lead"),
        element("p", " ".join(facts.data), class_="lead quiet") if facts.data else None,
    )


def banner(facts: Facts, run_dir: RunDir, history: History) -> Markup | None:
    """What stands on top of a run that did not reach its end, or whose numbers broke."""
    parts: list[Markup] = []
    if facts.status != "finished":
        word = "was interrupted" if facts.status == "interrupted" else "failed"
        saved = has_checkpoint(run_dir)
        how = (
            "Go on from its last checkpoint with:" if saved else "It left no checkpoint; start it again with:"
        )
        state = element("strong", f"This run {word} after {plural(facts.steps, 'step')}.")
        parts.append(element("p", state, " Below is what it had learned until then. ", how))
        parts.append(command(resume_command(facts, run_dir) if saved else facts.command))
    if history.first_broken is not None:
        name, step = history.first_broken
        fact = element("strong", f"The {name} was no finite number at step {step:,}.")
        advice = " A lower learning rate, gradient clipping or a look at the inputs usually helps."
        parts.append(element("p", fact, advice))
    if not parts:
        return None
    return element("aside", parts, class_=f"banner {facts.status}", aria_label="State of the run")


def command(text: str) -> Markup:
    """A command with a copy button, which the script reveals."""
    button = element("button", "Copy", type="button", class_="copy", hidden=True)
    return element("div", element("pre", element("code", text)), button, class_="command")


def cards(facts: Facts) -> Markup:
    """The headline numbers."""
    parameters = parameter_count(facts)
    found = [(label(key), metric(key, value), "") for key, value in facts.metrics.items()]
    found.append(("Time", duration(facts.seconds), f"{plural(facts.steps, 'step')}"))
    if facts.samples_per_second > 0:
        found.append(("Samples per second", number(facts.samples_per_second, 3), "training"))
    if parameters:
        found.append(
            ("Parameters", number(float(parameters), 3) if parameters >= 10**9 else f"{parameters:,}", "")
        )
    items = [
        element("div", element("dt", name), element("dd", value, element("small", hint) if hint else None))
        for name, value, hint in found
    ]
    return element("dl", items, class_="cards", aria_label="Headline numbers")


def parameter_count(facts: Facts) -> int:
    """Values in all parameters, from the decay table or else from the model's line; 0 if neither says."""
    if facts.decay:
        return sum(math.prod(d.shape) for d in facts.decay)
    found = re.search(r"([\d,]+) parameters", facts.model)
    return int(found.group(1).replace(",", "")) if found and found.group(1).strip(",") else 0


def findings(diagnoses: Sequence[Diagnosis]) -> Markup | None:
    """What the doctor found, errors first."""
    if not diagnoses:
        return None
    order = {"error": 0, "warning": 1, "note": 2}
    items = []
    for found in sorted(diagnoses, key=lambda d: order[d.severity]):
        place = f"{found.file}:{found.line}" if found.file and found.line else found.file
        items.append(
            element(
                "li",
                element(
                    "p", element("span", found.severity, class_="severity"), " ", element("code", found.fault)
                ),
                element("p", found.message),
                element("p", element("b", "Fix: "), found.fix) if found.fix else None,
                element("p", element("code", place), class_="quiet") if place else None,
                class_=found.severity,
            )
        )
    return section("findings", "What the doctor found", element("ul", items, class_="findings"))


def recipe(choices: Sequence[Choice]) -> Markup | None:
    """Every decision with who took it and why."""
    if not choices:
        return None
    items = []
    for choice in choices:
        by = "you" if choice.by == "you" else "recipe"
        why = element("p", choice.why) if choice.why else None
        source = element("p", choice.source, class_="quiet source") if choice.source else None
        head = element("dt", element("code", choice.key), element("span", by, class_=f"by {by}"))
        value = element("dd", choice.value, class_="value")
        items.append(element("div", head, value, element("dd", why, source, class_="why")))
    yours = sum(c.by == "you" for c in choices)
    note = f"{plural(len(choices), 'decision')}: {yours} by you, {len(choices) - yours} by the recipe."
    body = element("dl", items, class_="recipe")
    return section("recipe", "What was chosen, and why", element("p", note, class_="note"), body)


def update_rule(facts: Facts) -> Markup | None:
    """The optimizer's line, its formula, and which parameters it shrinks."""
    if not (facts.optimizer or facts.formula or facts.decay):
        return None
    line = element("p", element("code", facts.optimizer), class_="optimizer") if facts.optimizer else None
    return section("rule", "The update rule", line, formula(facts.formula), decay(facts.decay))


def formula(latex: str) -> Markup | None:
    """The formula as MathML, or its source where it is outside the subset."""
    if not latex.strip():
        return None
    try:
        drawn = to_mathml(latex)
    except NotUnderstood:
        return element("pre", element("code", latex.strip()), class_="formula source")
    return element(
        "div", drawn, class_="formula scroll", tabindex="0", role="region", aria_label="Update rule"
    )


def decay(parameters: Sequence[Decayed]) -> Markup | None:
    """Which parameters get weight decay, folded away where they are many."""
    if not parameters:
        return None
    sizes = [math.prod(d.shape) for d in parameters]
    decayed = [size for d, size in zip(parameters, sizes, strict=True) if d.weight_decay != 0]
    rates = sorted({d.weight_decay for d in parameters if d.weight_decay != 0})
    if rates:
        how = " and ".join(number(r) for r in rates[:3]) + (" and more" if len(rates) > 3 else "")
        note = (
            f"Weight decay of {how} on {len(decayed):,} of {plural(len(parameters), 'parameter tensor')}: "
            f"{sum(decayed):,} of {sum(sizes):,} values."
        )
    else:
        note = f"No weight decay on any of {plural(len(parameters), 'parameter tensor')}."
    rows = [table_row("th", "Parameter", "Shape", "Weight decay", "Why")]
    for d in parameters[:DECAY_ROWS]:
        rate = number(d.weight_decay) if d.weight_decay else "none"
        shape = "×".join(map(str, d.shape)) or "scalar"
        rows.append(table_row("td", element("code", d.name), shape, rate, d.why))
    body = element("div", element("table", rows, class_="list"), class_="scroll")
    more = len(parameters) - DECAY_ROWS
    rest = element("p", f"And {more:,} more.", class_="note") if more > 0 else None
    folded = element(
        "details", element("summary", "Parameter by parameter"), body, rest, open=len(parameters) <= 8
    )
    return element("div", element("h3", "Weight decay"), element("p", note), folded, class_="decay")


def table_row(tag: str, *cells: str) -> Markup:
    """One row of ``th`` or ``td``."""
    return element("tr", [element(tag, cell, scope="col" if tag == "th" else None) for cell in cells])


def reproduce(facts: Facts, config: str, history: History) -> Markup:
    """The command, the environment, the configuration and the log of events."""
    environment = [element("div", element("dt", k), element("dd", v)) for k, v in facts.environment.items()]
    return section(
        "reproduce",
        "Do it again",
        command(facts.command) if facts.command else None,
        element("h3", "Environment") if environment else None,
        element("dl", environment, class_="environment") if environment else None,
        fold("Configuration, fully resolved", element("pre", element("code", config))) if config else None,
        passes(history),
        events(history.events),
    )


def fold(title: str, *children: Child) -> Markup:
    """Something long behind its title."""
    return element("details", element("summary", title), children)


def passes(history: History) -> Markup | None:
    """The validation values as a table, for those who cannot or do not want to read them from a curve."""
    if not history.passes:
        return None
    keys = list(history.valid)
    rows = [table_row("th", "Step", "Epoch", *(label(k) for k in keys))]
    for index, _ in pick([(float(i), 0.0) for i in range(len(history.passes))], PASS_ROWS):
        line = history.passes[int(index)]
        epoch = line.get("epoch")
        known = number(float(epoch), 3) if isinstance(epoch, (int, float)) else ""
        rows.append(table_row("td", f"{line['step']:,}", known, *(_value(k, line.get(k)) for k in keys)))
    table = element("div", element("table", rows, class_="list"), class_="scroll")
    return fold(f"Validation values, {plural(len(history.passes), 'pass').replace('passs', 'passes')}", table)


def _value(key: str, value: Any) -> str:
    return metric(key, float(value)) if isinstance(value, (int, float)) else ""


def events(found: Sequence[Event]) -> Markup | None:
    """What happened during the run."""
    if not found:
        return None
    rows = [table_row("th", "Step", "Event", "")]
    rows += [table_row("td", f"{e.step:,}", e.name, e.text) for e in found[:PASS_ROWS]]
    return fold(
        f"Events, {len(found):,}", element("div", element("table", rows, class_="list"), class_="scroll")
    )
