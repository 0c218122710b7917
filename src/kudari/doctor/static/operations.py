"""Find the operation in the source that may give values that are not finite."""

from __future__ import annotations

import linecache
import re

from kudari.doctor.finding import Place

_PATTERNS = {
    "log": re.compile(r"(?<![\w])(?:torch\.|np\.|math\.)?log(?:2|10)?\(|\.log(?:2|10)?\(\)"),
    "sqrt": re.compile(r"sqrt\(|\.norm\(|\*\*\s*0\.5|rsqrt\("),
    "division": re.compile(r"(?<!/)/(?!/)|\.div\(|torch\.div\("),
    "power": re.compile(r"\*\*|\.pow\(|torch\.pow\("),
    "overflow": re.compile(r"exp\(|cosh\(|sinh\("),
    "gradient": re.compile(r"sqrt\(|\.norm\(|\.std\(|\*\*\s*0\.|acos\(|asin\(|cdist\(|log\(|\.log\(\)"),
}


def nearest_operation(near: Place | None, cause: str) -> int | None:
    """Line of the operation nearest to a place, in the same file; None where none or nothing is sought."""
    pattern = _PATTERNS.get(cause)
    if near is None or pattern is None:
        return None
    lines = linecache.getlines(near.file)
    hits = [
        number
        for number, text in enumerate(lines, 1)
        if pattern.search(text.split("#")[0]) and "print(" not in text and "import " not in text
    ]
    before = [n for n in hits if n <= near.line]
    return before[-1] if before else next(iter(hits), None)
