"""Every script the doctor is judged by, and what it says: errors and warnings, unsuppressed.

    PYTHONPATH=src python benchmarks/bench_doctor_cases.py

Three kinds: the sick, cured and healthy run that every finding brings; sick scripts in other styles, with
the cause named in their first line; healthy scripts in the usual styles of the field, which must be silent
under ``kudari doctor`` and under ``kudari check``. Exits with 1 where one of them is judged wrongly. Loops on
several ranks and those of other packages are tests: ``tests/dist/claims_doctor.py`` and
``tests/clients/test_doctor.py``.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from pathlib import Path

import torch

from kudari.doctor.catalogue import illnesses
from kudari.doctor.script import visit
from kudari.doctor.static.check import check_file
from kudari.testing.finding_exam import check_finding

SCRIPTS = Path(__file__).parents[1] / "tests/cpu/doctor"


def reported(script: Path) -> list[str]:
    """Errors and warnings that stand after a run, the static side merged."""
    with contextlib.redirect_stdout(io.StringIO()):
        seen = visit(script, static=check_file(script))
    return [f.fault for f in seen.diagnoses.shown if f.severity != "note"]


def exams() -> int:
    """The runs of every finding; the number of runs that failed."""
    failed = count = 0
    for slug in illnesses():
        for exam in check_finding(slug):
            count += 1
            if not exam.passed:
                failed += 1
                print(f"  {slug}, {exam.name} run: {', '.join(exam.reported) or 'nothing'}", flush=True)
    print(f"catalogue: {len(illnesses())} findings, {count - failed} of {count} own runs right", flush=True)
    return failed


def sick() -> int:
    """Scripts with one cause each."""
    failed, scripts = 0, sorted((SCRIPTS / "sick").glob("*.py"))
    for script in scripts:
        expected = script.read_text().splitlines()[0].removeprefix("# expect: ")
        found = reported(script)
        if found != [expected]:
            failed += 1
            print(f"  {script.stem}: {', '.join(found) or 'nothing'} instead of {expected}", flush=True)
    print(f"sick scripts: {len(scripts) - failed} of {len(scripts)} right", flush=True)
    return failed


def healthy() -> int:
    """Scripts with nothing to report."""
    failed, scripts = 0, sorted((SCRIPTS / "healthy").glob("*.py"))
    for script in scripts:
        found = reported(script) + [f.fault for f in check_file(script) if f.severity != "note"]
        if found:
            failed += 1
            print(f"  {script.stem}: {', '.join(found)}", flush=True)
    print(f"healthy scripts: {len(scripts) - failed} of {len(scripts)} silent", flush=True)
    print("  " + ", ".join(script.stem for script in scripts))
    return failed


def main() -> int:
    """Judge them all."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    return int(exams() + sick() + healthy() > 0)


if __name__ == "__main__":
    sys.exit(main())
