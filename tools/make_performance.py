"""Write docs/performance.md and its picture from the figures of the benchmark of all optimizers.

python benchmarks/bench_rules.py --json figures.json
python tools/make_performance.py figures.json
"""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.note { fill: #59636e; font-size: 12px }
.ours { fill: #0b7285 } .theirs { fill: #ced4da } .limit { stroke: #59636e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .note { fill: #9198a1 } .ours { fill: #3bc9db } .theirs { fill: #495057 }
  .limit { stroke: #9198a1 }
}"""
_ROW, _LEFT, _SCALE = 34, 170, 390  # pixels: height of a row, start of the bars, length of a share of 1


def picture(rows: list[dict[str, Any]]) -> str:
    """Two bars for each optimizer: our share of the memory's bandwidth, and the fastest rival's."""
    height = _ROW * len(rows) + 70
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {height}" role="img">',
        "<title>Share of the memory bandwidth that a step of 64M parameters reaches</title>",
        f"<style>{_STYLE}</style>",
        '<text x="10" y="22">Share of memory bandwidth, 64M float32 parameters</text>',
        '<text x="10" y="40" class="note">coloured: kudari; grey: the fastest other implementation</text>',
    ]
    for index, row in enumerate(rows):
        top = 56 + index * _ROW
        share, theirs = row["share"], row["share"] / row["times_faster"]
        parts.append(f'<text x="{_LEFT - 8}" y="{top + 17}" text-anchor="end">{escape(row["name"])}</text>')
        parts.append(_bar(top, 12, share, "ours", f"{share:.2f}"))
        if not math.isnan(theirs):
            parts.append(_bar(top + 13, 10, theirs, "theirs", f"{row['rival']}, {theirs:.2f}"))
    x, end = _LEFT + _SCALE, height - 14
    parts.append(f'<line x1="{x}" x2="{x}" y1="50" y2="{end}" class="limit"/>')
    parts.append(
        f'<text x="{x}" y="{height - 2}" text-anchor="middle" class="note">in-place mul_</text></svg>'
    )
    return "\n".join(parts) + "\n"


def _bar(top: int, height: int, share: float, kind: str, label: str) -> str:
    width = round(share * _SCALE)
    text = "" if kind == "ours" else ' class="note"'
    return (
        f'<rect x="{_LEFT}" y="{top}" width="{width}" height="{height}" rx="2" class="{kind}"/>'
        f'<text x="{_LEFT + width + 6}" y="{top + height - 1}"{text}>{escape(label)}</text>'
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, one line an optimizer."""
    lines = [
        "| optimizer | bytes | ms | share | fastest other | ms | times | 500 x 1K, ms | of fused AdamW |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        none = math.isnan(r["times_faster"])
        other = (
            "none installed | |" if none else f"{r['rival']} | {r['rival_ms']:.0f} | {r['times_faster']:.1f}"
        )
        size, share = (r["bytes"], f"{r['share']:.2f}") if r["bytes"] else ("", "")
        lines.append(
            f"| {r['name']} | {size} | {r['ours_ms']:.0f} | {share} | {other} | "
            f"{r['small_ms']:.2f} | {r['small_ratio']:.2f} |"
        )
    return "\n".join(lines)


def page(figures: dict[str, Any]) -> str:
    """The page."""
    waiting = [r for r in figures["rows"] if r["bytes"]]
    multiplying = [r for r in figures["rows"] if not r["bytes"]]
    return f"""# How fast is a step?

An elementwise optimizer cannot be faster than memory: it must read the parameter, the gradient and its
states, and write back what changed. The "share" compares the bytes that the step has to move, per second,
with those of an in-place `x.mul_(c)` over as many numbers, measured by turns in the same process. Above 1 is
possible because several streams at once load memory better than one.

![Share of the memory bandwidth](images/performance.svg)

{table(waiting)}

64M float32 parameters in 16 matrices; "bytes" are read and written for each parameter; "times" is how many
times as long the other takes. Optimizers that multiply matrices, on 4 matrices of 256 x 512 (one step; for
SOAP and Shampoo ten, with one renewal of their factors):

{table(multiplying)}

{figures["machine"]}. Written by `python benchmarks/bench_rules.py --json figures.json` and
`python tools/make_performance.py figures.json`; `make bench-step` prints the same table for your machine.
The log of all measurements, failures included, is [log.md](log.md).
"""


def main() -> None:
    figures = json.loads(Path(sys.argv[1]).read_text())
    (DOCS / "performance.md").write_text(page(figures))
    (DOCS / "images" / "performance.svg").write_text(picture([r for r in figures["rows"] if r["bytes"]]))


if __name__ == "__main__":
    main()
