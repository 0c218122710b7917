"""The manual page of an illness, for ``kudari explain`` and the docs."""

from __future__ import annotations

import textwrap

from kudari.doctor.finding import Illness


def page(illness: Illness) -> str:
    """What it sees, why it hurts, the fix, an example with its cure, and when it is no fault."""
    sides = [name for name, judge in (("runs", illness.judge), ("source", illness.read)) if judge is not None]
    parts = [f"{illness.slug} ({illness.severity}; seen in {' and '.join(sides)})"]
    manual = illness.manual
    for title, text in (
        ("What it sees", manual.sees),
        ("Why it hurts", manual.hurts),
        ("Fix", manual.fix),
        ("No fault if", manual.unless),
    ):
        parts.append(f"{title}\n{textwrap.indent(textwrap.fill(text, 96), '  ')}")
    if illness.runs is not None:
        parts.append("Example\n" + textwrap.indent(illness.runs.sick.strip(), "  "))
        cure = "\n".join(
            textwrap.indent(old.strip("\n"), "- ") + "\n" + textwrap.indent(new.strip("\n"), "+ ")
            for old, new in illness.runs.cure
        )
        parts.append("Cure\n" + textwrap.indent(cure, "  "))
    parts.append(f"Silence one line with  # kudari: ignore[{illness.slug}]")
    return "\n\n".join(parts)
