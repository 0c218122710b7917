"""Find where in the source a graph is cut."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

from kudari.doctor.finding import Place

_CUTS = re.compile(
    r"\.detach\(\)|\.data\b|\.numpy\(\)|\.tolist\(\)|\.item\(\)|torch\.tensor\(|torch\.no_grad\(\)|\.argmax\("
    r"|requires_grad\s*=\s*True|requires_grad_\(\)|torch\.round\(|\.round\(\)|torch\.as_tensor\("
)
_REPORTS = re.compile(r"print\(|append\(|\+=|\.write\(|log|assert|zero_|\.grad\b")
NEAR_LINES = 60


def first_cut(near: Place | None) -> str | None:
    """The nearest line of the file that ends a graph, such as ``"train.py:15 .detach()"``."""
    if near is None:
        return None
    lines = linecache.getlines(near.file)
    order = [*range(near.line, max(0, near.line - NEAR_LINES), -1), *range(near.line + 1, len(lines) + 1)]
    for number in order:
        text = lines[number - 1].split("#")[0] if number <= len(lines) else ""
        match = _CUTS.search(text)
        if match and not _REPORTS.search(text):
            return f"{Path(near.file).name}:{number} {match[0]}"
    return None
