"""Findings as SARIF 2.1.0, which editors and code hosts read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kudari.doctor.catalogue import illnesses
from kudari.doctor.diagnose import Diagnoses
from kudari.doctor.finding import Finding

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_sarif(diagnoses: Diagnoses) -> dict[str, Any]:
    """The report as a SARIF log with one run; suppressed findings carry a suppression."""
    used = sorted({f.fault for f in diagnoses.findings})
    known = illnesses()
    rules = [
        {
            "id": slug,
            "shortDescription": {"text": known[slug].manual.sees.split(". ")[0]},
            "help": {"text": known[slug].manual.fix},
        }
        for slug in used
    ]
    driver = {"name": "kudari", "informationUri": "https://github.com/kudari/kudari", "rules": rules}
    results = [_result(f, used.index(f.fault)) for f in diagnoses.findings]
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def write_sarif(diagnoses: Diagnoses, path: Path) -> None:
    """Write the log to a file."""
    path.write_text(json.dumps(as_sarif(diagnoses), indent=1) + "\n", encoding="utf-8")


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.fault,
        "ruleIndex": rule,
        "level": finding.severity,
        "message": {"text": f"{finding.message}. {finding.fix}"},
    }
    if finding.file is not None:
        region: dict[str, int] = {"startLine": finding.line or 1}
        if finding.column is not None:
            region["startColumn"] = finding.column + 1
        if finding.end_column is not None:
            region["endColumn"] = finding.end_column + 1
        location = {"artifactLocation": {"uri": Path(finding.file).as_posix()}, "region": region}
        result["locations"] = [{"physicalLocation": location}]
    if finding.suppressed_by:
        result["suppressions"] = [
            {"kind": "external", "justification": f"symptom of {finding.suppressed_by}"}
        ]
    return result
