"""``kudari optim``: the optimizers, their formulas and where they come from."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from kudari.cli._rules import find_rule, rules
from kudari.cli._screen import Screen

if TYPE_CHECKING:
    from kudari.optim import Description

HELP = "List the optimizers, or show one: formula, source, defaults and states."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands."""
    commands = parser.add_subparsers(dest="what", metavar="list | show NAME")
    listing = commands.add_parser("list", help="one line for each optimizer")
    listing.add_argument("--json", action="store_true", help="print one JSON list")
    show = commands.add_parser("show", help="everything about one optimizer")
    show.add_argument("name", metavar="NAME", help="such as adamw")
    show.add_argument("--latex", action="store_true", help="print the formula in LaTeX and nothing else")
    show.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print what was asked for."""
    return _show(args) if args.what == "show" else _list(getattr(args, "json", False))


def _list(as_json: bool) -> int:
    screen = Screen()
    if as_json:
        print(json.dumps([{"name": n, "summary": r.summary, "source": r.source} for n, r in rules().items()]))
        return 0
    screen.table(
        ["name", "what it does", "source"], [[n, r.summary, _short(r.source)] for n, r in rules().items()]
    )
    screen.say()
    screen.say("All about one of them:")
    screen.command("kudari optim show adamw")
    return 0


def _traffic(about: Description) -> list[tuple[str, str]]:
    """Passes and bytes, for each kind of tensors if the rule tells them apart."""
    kinds = about.kinds or (("", about.passes, about.bytes_per_parameter),)
    return [
        row
        for who, passes, size in kinds
        for row in (
            ("passes", f"{passes} (reads / writes)"),
            ("memory traffic", f"{size} bytes for each float32 parameter and step{who and f' ({who})'}"),
        )
    ]


def _short(source: str) -> str:
    """Authors and year of the first source: ``Loshchilov, Hutter 2019``."""
    return source.split(";")[0].split(", algorithm")[0] if len(source) < 40 else _to_year(source)


def _to_year(source: str) -> str:
    words = source.split()
    for i, word in enumerate(words):
        if word.strip(",;").isdigit() and len(word.strip(",;")) == 4:
            return " ".join(words[: i + 1]).rstrip(",;")
    return source


def _show(args: argparse.Namespace) -> int:
    import dataclasses

    rule = find_rule(args.name)
    from kudari.optim import describe

    about = describe(rule)
    if args.latex:
        print(about.formula)
        return 0
    if args.json:
        print(json.dumps(dataclasses.asdict(about)))
        return 0
    screen = Screen()
    screen.say(rule.name, style="bold")
    screen.say(about.summary)
    screen.say("\nformula")
    for line in about.text:
        print("  " + screen.paint(line, "cyan"), file=screen.stream)
    screen.say("\nhyper-parameters")
    screen.table(
        ["  name", "default", "allowed"],
        [["  " + name, default, text] for name, default, text in about.hypers],
    )
    screen.say()
    rows = [
        ("states", ", ".join(about.states) or "none"),
        *_traffic(about),
        *(("stage", f"{name}: {text} for an m x n matrix, m <= n") for name, text in about.stages),
        ("typical", about.typical),
        ("source", about.source),
        *(("differs", text) for text in about.differs),
    ]
    screen.pairs([(name, value) for name, value in rows if value], indent=0)
    screen.say("\nTrain with it, or use it in a loop of your own:")
    screen.command(f"kudari train optimizer={rule.name.lower()}")
    screen.command(f"python: optimizer = kudari.optim.{rule.name}(model.parameters(), lr=...)")
    return 0
