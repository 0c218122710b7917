"""Try a certain fix: run the script as it is and with the fix, each in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kudari.doctor.finding import Finding
from kudari.doctor.static.check import check_source
from kudari.doctor.static.edits import diff
from kudari.doctor.static.fixing import fixed
from kudari.errors import ArgumentError


@dataclass(frozen=True)
class Outcome:
    """One of the two runs.

    Attributes:
        status: exit status.
        faults: unsuppressed errors and warnings, by slug.
        losses: of the busiest backward, in order.
        findings: those the run reported in the script, for the fix.
    """

    status: int
    faults: tuple[str, ...]
    losses: tuple[float, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Trial:
    """Before and after a fix; ``after`` is None where no finding has a certain fix."""

    before: Outcome
    after: Outcome | None
    slugs: tuple[str, ...]
    change: str


def try_fix(script: Path, arguments: Sequence[str], steps: int) -> Trial:
    """Run ``steps`` optimizer steps of a script twice, the second time with its certain fixes.

    Args:
        script: the file; it is not written to.
        arguments: what it sees behind its name.
        steps: optimizer steps of each run, 1 or more.

    Raises:
        ArgumentError: ``steps`` is below 1, or the script cannot be read.
    """
    if steps < 1:
        raise ArgumentError(f"steps={steps} is below 1.", fix="Pass the steps of each run, such as 200.")
    try:
        source = script.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{script} cannot be read: {error}.") from error
    before = _run(script, source, arguments, steps)
    new, slugs = source, list[str]()
    while True:
        # A run tells the place of what it saw; the text tells it anew once lines have moved.
        seen = before.findings if new == source else ()
        ran, slug = fixed(str(script), new, [*seen, *check_source(str(script), new)])
        if not slug or slug in slugs:
            break
        new, slugs = ran, [*slugs, slug]
    if not slugs:
        return Trial(before, None, (), "")
    return Trial(before, _run(script, new, arguments, steps), tuple(slugs), diff(source, new, script.name))


def _run(script: Path, text: str, arguments: Sequence[str], steps: int) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="kudari-") as folder:
        source, out = Path(folder, "source.py"), Path(folder, "out.json")
        source.write_text(text, encoding="utf-8")
        words = [str(script), str(source), str(steps), str(out), *arguments]
        done = subprocess.run(  # noqa: S603 - the user's own script, in the same Python
            [sys.executable, "-m", "kudari.doctor.trial", *words], capture_output=True, text=True, check=False
        )
        if not out.exists():
            raise ArgumentError(f"{script} ended without a report: {done.stderr[-300:].strip()}")
        told = json.loads(out.read_text(encoding="utf-8"))
    findings = tuple(Finding(**row) for row in told["findings"])
    loud = dict.fromkeys(f.fault for f in findings if f.severity != "note" and f.suppressed_by is None)
    return Outcome(told["status"], tuple(loud), tuple(told["losses"]), findings)


def trial_text(trial: Trial) -> str:
    """The diff, and a table of both runs."""
    if trial.after is None:
        found = ", ".join(trial.before.faults) or "nothing"
        return f"Found: {found}. No finding here has a certain fix; the findings say what to do."
    rows = [("", "before", "after"), *_rows(trial.before, trial.after)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    table = "\n".join(line.rstrip() for line in lines)
    return f"{trial.change}\n{table}"


def _rows(before: Outcome, after: Outcome) -> list[tuple[str, str, str]]:
    steps = min(len(before.losses), len(after.losses))
    return [
        ("errors and warnings", ", ".join(before.faults) or "none", ", ".join(after.faults) or "none"),
        ("first loss", _level(before.losses[:1]), _level(after.losses[:1])),
        (f"mean loss of the last tenth of {steps}", _end(before.losses[:steps]), _end(after.losses[:steps])),
        ("exit status", str(before.status), str(after.status)),
    ]


def _end(losses: Sequence[float]) -> str:
    return _level(losses[-max(1, len(losses) // 10) :])


def _level(losses: Sequence[float]) -> str:
    return f"{sum(losses) / len(losses):.4g}" if losses else "-"


def _child(words: Sequence[str]) -> None:
    """The process of one run: script, its text, steps, where to write, and the script's own arguments."""
    from kudari.doctor.printers.json import as_dict
    from kudari.doctor.script import visit

    script, source, steps, out, *arguments = words
    text = Path(source).read_text(encoding="utf-8")
    seen = visit(Path(script), arguments, text=text, steps=int(steps))
    rows = as_dict(seen.diagnoses)["findings"]
    for row, finding in zip(rows, seen.diagnoses.findings, strict=True):
        row.update(column=finding.column)
    losses = [v if math.isfinite(v) else math.nan for v in seen.losses]
    told = {"status": seen.status, "losses": losses, "findings": rows}
    Path(out).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    _child(sys.argv[1:])
