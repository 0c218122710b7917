"""Findings that are known and accepted, by file, slug and the text of the line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kudari.doctor.diagnose import Diagnoses
from kudari.doctor.finding import Finding
from kudari.doctor.places import source_line
from kudari.errors import ArgumentError

Key = tuple[str, str, str]


def _key(finding: Finding) -> Key:
    line = source_line(finding.file, finding.line).strip() if finding.file and finding.line else ""
    return (Path(finding.file or "").as_posix(), finding.fault, line)


def write_baseline(diagnoses: Diagnoses, path: Path) -> None:
    """List the findings of today; line numbers may move, the text of the line identifies them."""
    rows = sorted({_key(f) for f in diagnoses.findings})
    path.write_text(json.dumps([list(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def read_baseline(path: Path) -> frozenset[Key]:
    """Read what :func:`write_baseline` wrote.

    Raises:
        ArgumentError: the file is missing or is no baseline.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return frozenset((str(file), str(fault), str(line)) for file, fault, line in rows)
    except (OSError, ValueError, TypeError) as error:
        raise ArgumentError(
            f"{path} is not a baseline: {error}.",
            fix="Write one with: kudari check PATH --write-baseline FILE",
        ) from error


def without_known(findings: Sequence[Finding], known: frozenset[Key]) -> list[Finding]:
    """Leave out the findings that a baseline lists."""
    return [f for f in findings if _key(f) not in known]
