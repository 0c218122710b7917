"""Findings as JSON, the stable interface for programs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from kudari.doctor.diagnose import Diagnoses
from kudari.doctor.finding import Finding

FIELDS = ("fault", "severity", "message", "file", "line", "evidence", "fix", "suppressed_by")


def as_dict(diagnoses: Diagnoses) -> dict[str, Any]:
    """The report as plain data: findings, passed, skipped."""
    return {
        "findings": [_finding(f) for f in diagnoses.findings],
        "passed": list(diagnoses.passed),
        "skipped": [{"fault": slug, "why": why} for slug, why in diagnoses.skipped.items()],
    }


def write_json(diagnoses: Diagnoses, path: Path) -> None:
    """Write the report to a file."""
    path.write_text(json.dumps(as_dict(diagnoses), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _finding(finding: Finding) -> dict[str, Any]:
    row = {name: getattr(finding, name) for name in FIELDS}
    row["evidence"] = {name: _plain(value) for name, value in finding.evidence.items()}
    return row


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    return str(value)
