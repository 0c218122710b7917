"""The exam every finding sits: sick fires exactly this one, healthy none, and the cured run none."""

from __future__ import annotations

import contextlib
import hashlib
import io
import linecache
import warnings
from dataclasses import dataclass

from kudari.doctor.catalogue import illness as find_illness
from kudari.doctor.diagnose import Diagnoses
from kudari.doctor.finding import Finding, Illness
from kudari.doctor.watching import watch


@dataclass(frozen=True)
class Exam:
    """What one run of the exam showed.

    Attributes:
        name: ``sick``, ``healthy`` or ``cured``.
        reported: slugs of unsuppressed errors and warnings, and of notes that are the finding itself.
        expected: what should have been reported.
        beside: symptoms that were suppressed and notes of other findings; neither is an alarm.
    """

    name: str
    reported: tuple[str, ...]
    expected: tuple[str, ...]
    beside: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True when exactly the expected was reported."""
        return self.reported == self.expected


def run_source(source: str, name: str = "run") -> Diagnoses:
    """Run the source of a script under observation, without its prints.

    Args:
        source: Python source, run as a module of its own.
        name: shown as the file name, ``<name>``.

    Raises:
        Exception: whatever the source raises.
    """
    file = f"<{name} {hashlib.sha256(source.encode()).hexdigest()[:8]}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace = {"__name__": f"kudari_exam_{name}"}
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), watch() as doctor:
            warnings.simplefilter("ignore")  # torch warns of some of the sick runs itself
            exec(compile(source, file, "exec"), namespace)  # noqa: S102 - the exam's own scripts
    finally:
        namespace.clear()
    return doctor.diagnoses or doctor.examine()


def check_finding(subject: str | Illness) -> tuple[Exam, ...]:
    """Sit the exam: the sick, the cured and the healthy run of an illness.

    Args:
        subject: a slug of the catalogue, or an :class:`Illness` of your own.

    Returns:
        One :class:`Exam` per run; empty when the illness brings no runs.

    Example:
        >>> all(exam.passed for exam in check_finding("missing-zero-grad"))
        True
    """
    illness = find_illness(subject) if isinstance(subject, str) else subject
    if illness.runs is None:
        return ()
    sources = {"sick": illness.runs.sick, "cured": illness.runs.cured(), "healthy": illness.runs.healthy}
    exams = []
    for name, source in sources.items():
        found = run_source(source, f"{illness.slug} {name}").findings
        counts = [f for f in found if f.suppressed_by is None and _counts(f, illness.slug)]
        beside = tuple(sorted({f.fault for f in found if f not in counts}))
        expected = (illness.slug,) if name == "sick" else ()
        exams.append(Exam(name, tuple(f.fault for f in counts), expected, beside))
    return tuple(exams)


def _counts(finding: Finding, slug: str) -> bool:
    return finding.severity != "note" or finding.fault == slug
