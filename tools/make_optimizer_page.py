"""Write ``docs/optimizers.md`` from the rules: formula, source, defaults, states, bytes of each optimizer.

Run it after adding or changing a rule (``make stubs``); a test fails while the page is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from kudari.optim import describe, rules
from kudari.optim.describe import Description

TARGET = Path(__file__).parents[1] / "docs/optimizers.md"
HEAD = """# The optimizers

Made by `make stubs` from [`kudari/rules`](../src/kudari/rules); do not edit. Each formula is printed from the
expression that is compiled. "Bytes" are what a float32 step reads and writes for each parameter, "passes" the
tensors read / written in each pass over memory. How fast that is: [performance.md](performance.md).

"""


def overview(found: list[Description]) -> list[str]:
    """A table with a line for each."""
    lines = ["| | what it does | bytes | passes |", "|---|---|---|---|"]
    return lines + [
        f"| [{d.name}](#{d.name.lower()}) | {d.summary} | {d.bytes_per_parameter} | `{d.passes}` |"
        for d in found
    ]


def section(d: Description) -> list[str]:
    """All about one."""
    lines = ["", f"## {d.name}", "", d.summary, "", "$$", d.formula, "$$", ""]
    lines += ["| hyper-parameter | default | allowed |", "|---|---|---|"]
    lines += [f"| `{name}` | `{default}` | {allowed} |" for name, default, allowed in d.hypers]
    lines += ["", f"States: {', '.join(f'`{s}`' for s in d.states) or 'none'}."]
    if d.typical:
        lines += ["", f"Typical: {d.typical}."]
    lines += ["", f"Source: {d.source}."]
    lines += [f"\n*Differs:* {text}" for text in d.differs]
    return lines


def page() -> str:
    """The whole page."""
    found = sorted((describe(rule) for rule in rules()), key=lambda d: d.name.lower())
    lines = overview(found)
    for d in found:
        lines += section(d)
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = page()
    if "--check" in sys.argv:
        sys.exit(TARGET.read_text() != text and f"{TARGET.name} is stale: run `make stubs`.")
    TARGET.write_text(text)
