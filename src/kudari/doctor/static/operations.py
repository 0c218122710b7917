"""Look at the source around a place that a run has shown."""

from __future__ import annotations

import ast
import linecache
import re

from kudari.doctor.finding import Place
from kudari.doctor.static.reading import Reading, assignments, method_call, text

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
        for number, line in enumerate(lines, 1)
        if pattern.search(line.split("#")[0]) and "print(" not in line and "import " not in line
    ]
    before = [n for n in hits if n <= near.line]
    return before[-1] if before else next(iter(hits), None)


def steps_under_condition(built: Place | None) -> bool:
    """True where the object that is built at a place has its ``step`` called under an ``if``."""
    try:
        reading = Reading(built.file, "".join(linecache.getlines(built.file))) if built else None
    except (SyntaxError, ValueError, RecursionError):
        return False
    if reading is None or built is None:
        return False
    names = {
        text(target)
        for node in reading.assigned
        for target, value in assignments(node)
        if value.lineno <= built.line <= (value.end_lineno or value.lineno)
    }
    steps = [c for c in reading.calls if (o := method_call(c, "step")) is not None and text(o) in names]
    return any(isinstance(above, ast.If) for call in steps for above in reading.up(call))
