"""Findings as text with the offending line and a caret."""

from __future__ import annotations

import os
from pathlib import Path

from kudari.doctor.diagnose import Diagnoses
from kudari.doctor.finding import SEVERITIES, Finding
from kudari.doctor.places import source_line

_COUNTERS = ("count", "first_step")

_NOTHING_SEEN = """\
No training was seen in this process, so nothing could be checked.
A script that trains in processes it starts is watched there: with kudari.doctor.watch(): ..."""


def as_text(diagnoses: Diagnoses, cost: float | None = None) -> str:
    """The report: every shown finding, then one line that sums up."""
    parts = [finding_text(finding) for finding in diagnoses.shown]
    return "\n\n".join([*parts, _summary(diagnoses, cost)])


def run_text(diagnoses: Diagnoses, cost: float | None = None) -> str:
    """The report of a run, which says so where it trained nothing."""
    seen = diagnoses.findings or diagnoses.passed
    return as_text(diagnoses, cost) if seen else f"{_NOTHING_SEEN}\n{as_text(diagnoses, cost)}"


def finding_text(finding: Finding) -> str:
    """One finding: level, slug, sentence; place; line with caret; evidence; fix; when it is no bug."""
    lines = [f"{finding.severity}[{finding.fault}]: {finding.message}"]
    margin = " "
    if finding.file is not None and finding.line is not None:
        margin = " " * len(str(finding.line))
        column = f":{finding.column + 1}" if finding.column is not None else ""
        lines.append(f"{margin}--> {_short(finding.file)}:{finding.line}{column}")
        lines += _quote(finding, margin)
    notes = [
        ("evidence", _evidence(finding)),
        ("fix", finding.fix),
        (
            "not a bug if",
            f"{finding.unless}; or add  # kudari: ignore[{finding.fault}]" if finding.unless else "",
        ),
        ("explains", ", ".join(finding.explains) + " (not listed)" if finding.explains else ""),
    ]
    indent = "\n" + margin + "   "
    lines += [f"{margin} = {name}: {text.replace(chr(10), indent)}" for name, text in notes if text]
    return "\n".join(lines)


def _quote(finding: Finding, margin: str) -> list[str]:
    assert finding.file is not None and finding.line is not None
    text = source_line(finding.file, finding.line)
    if not text.strip():
        return []
    quoted = [f"{margin} |", f"{finding.line} | {text}"]
    start, end = finding.column, finding.end_column
    if start is None or end is None:
        start, end = len(text) - len(text.lstrip()), len(text)
    carets = " " * start + "^" * max(1, end - start)
    quoted += [f"{margin} | {carets} {finding.label}".rstrip(), f"{margin} |"]
    return quoted


def _evidence(finding: Finding) -> str:
    facts = dict(finding.evidence)
    words = []
    if "count" in facts:
        first = facts.get("first_step")
        once = facts["count"] == 1
        at = "" if first is None else f", at step {first}" if once else f", first at step {first}"
        words += [] if once and not at else [("once" if once else f"{facts['count']} times") + at]
    words += [
        f"{name.replace('_', ' ')} {_number(value)}"
        for name, value in facts.items()
        if name not in _COUNTERS and value is not None
    ]
    return "; ".join(words)


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_number, value))
    return str(value)


def _summary(diagnoses: Diagnoses, cost: float | None) -> str:
    errors, warnings, notes = (diagnoses.count(level) for level in SEVERITIES)
    text = (
        f"{_plural(errors, 'error')}, {_plural(warnings, 'warning')}, {_plural(notes, 'note')}; "
        f"{len(diagnoses.passed)} checks passed, {len(diagnoses.skipped)} skipped (--json for the list)"
    )
    if diagnoses.ignored:
        text += f"; {len(diagnoses.ignored)} ignored"
    return text + (f"; cost {cost:.2f}x" if cost is not None else "")


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _short(file: str) -> str:
    path = Path(file)
    relative = os.path.relpath(path) if path.is_absolute() else file
    return file if relative.startswith("..") else relative
