"""Write ``docs/findings.md``: every finding of the doctor, and what its own three runs report.

``make findings`` runs all of them (a few minutes). The tests run them anyway, and compare each finding's row
with the page, so that a stale page fails.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from kudari.doctor.catalogue import illnesses
from kudari.doctor.finding import Illness
from kudari.doctor.static.fixing import CERTAIN
from kudari.testing.finding_exam import Exam, check_finding

TARGET = Path(__file__).parents[1] / "docs/findings.md"
HEAD = """# Findings of the doctor

Made by `make findings`; do not edit. Every finding brings three small scripts: a sick one, the same with the
prescription applied, and a healthy relative. The table shows what all findings together say about each of
these runs: the sick run must report exactly its own finding, the other two nothing. Symptoms that a finding
explains, and notes, stand behind the plus sign; they are no alarms. `kudari explain NAME` prints the manual
page with the scripts.

"Seen in" says whether a watched run shows it (`kudari doctor`), the source (`kudari check`), or both; "fix"
says whether `kudari check --fix` and `kudari doctor --try-fix` apply the prescription where it is certain.

| finding | level | seen in | fix | sick run | cured | healthy |
|---|---|---|---|---|---|---|
"""


def row(illness: Illness, exams: Sequence[Exam]) -> str:
    """The line of one finding."""
    seen = [name for name, judge in (("run", illness.judge), ("source", illness.read)) if judge is not None]
    fix = "yes" if illness.slug in CERTAIN else ""
    by_name = {exam.name: exam for exam in exams}
    results = [_cell(by_name[name]) for name in ("sick", "cured", "healthy")]
    return f"| {' | '.join([f'`{illness.slug}`', illness.severity, ', '.join(seen), fix, *results])} |"


def _cell(exam: Exam) -> str:
    reported = ", ".join(exam.reported) or "nothing"
    return reported + (f" + {', '.join(exam.beside)}" if exam.beside else "")


def main() -> int:
    """Run every script of the catalogue and write the page."""
    warnings.simplefilter("ignore")
    rows = []
    for slug, illness in illnesses().items():
        rows.append(row(illness, check_finding(slug)))
        print(rows[-1], flush=True)
    TARGET.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
