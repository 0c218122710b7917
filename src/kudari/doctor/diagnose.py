"""From verdicts to what is reported: judge, merge with the static side, suppress, silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kudari.doctor.catalogue import illnesses
from kudari.doctor.comments import is_ignored
from kudari.doctor.finding import SEVERITIES, Finding, Found, Illness, Severity, Skipped
from kudari.doctor.suppression import suppress

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


@dataclass(frozen=True)
class Diagnoses:
    """What the doctor says about a run or about source.

    Attributes:
        findings: errors first; suppressed ones included.
        passed: slugs of checks that had enough evidence and saw nothing.
        skipped: why, by slug, for checks without enough evidence.
        ignored: findings silenced by a comment, an argument or a baseline.
    """

    findings: tuple[Finding, ...]
    passed: tuple[str, ...] = ()
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[Finding, ...] = ()

    @property
    def shown(self) -> tuple[Finding, ...]:
        """Findings that are printed: all but the suppressed."""
        return tuple(f for f in self.findings if f.suppressed_by is None)

    def count(self, severity: Severity) -> int:
        """Number of shown findings of one level."""
        return sum(f.severity == severity for f in self.shown)

    def reaches(self, level: Severity) -> bool:
        """True when a shown finding is at ``level`` or worse."""
        return any(SEVERITIES.index(f.severity) <= SEVERITIES.index(level) for f in self.shown)


def as_finding(illness: Illness, found: Found) -> Finding:
    """Fill in from the manual what the judge left out."""
    place = found.place
    return Finding(
        fault=illness.slug,
        severity=found.severity or illness.severity,
        message=found.message,
        file=place.file if place else None,
        line=place.line if place else None,
        column=place.column if place else None,
        end_column=place.end_column if place else None,
        evidence=dict(found.evidence),
        fix=found.fix or illness.manual.fix,
        label=found.label,
        unless=illness.manual.unless,
        subjects=found.subjects,
    )


def judge_run(run: RunFacts) -> tuple[list[Finding], list[str], dict[str, str]]:
    """Ask every judge of the catalogue about a run: (findings, passed, skipped)."""
    findings: list[Finding] = []
    passed: list[str] = []
    skipped: dict[str, str] = {}
    for slug, illness in illnesses().items():
        if illness.judge is None:
            skipped[slug] = "only source shows it; see `kudari check`"
            continue
        verdict = illness.judge(run)
        if isinstance(verdict, Skipped):
            skipped[slug] = verdict.why
        elif verdict:
            findings += [as_finding(illness, found) for found in verdict]
        else:
            passed.append(slug)
    return findings, passed, skipped


def conclude(
    dynamic: Sequence[Finding],
    passed: Iterable[str],
    skipped: Mapping[str, str],
    static: Sequence[Finding] = (),
    ignore: Iterable[str] = (),
) -> Diagnoses:
    """Merge the two sides, suppress symptoms, drop what the user ignores.

    A static suspicion is removed where the same check passed on the evidence of a run; and where the run
    found the same illness, the run's finding stands.
    """
    passed, ignored_slugs = tuple(passed), frozenset(ignore)
    acquitted = {*passed, *(f.fault for f in dynamic)}
    merged = [*dynamic, *(f for f in static if f.fault not in acquitted)]
    # A root that the user silences still explains its symptoms.
    judged = suppress(merged)
    silenced = [f for f in judged if f.fault in ignored_slugs or is_ignored(f)]
    kept = [f for f in judged if f not in silenced]
    kept.sort(key=lambda f: (SEVERITIES.index(f.severity), f.file or "", f.line or 0, f.fault))
    named = {f.fault for f in kept}
    return Diagnoses(
        findings=tuple(kept),
        passed=tuple(slug for slug in passed if slug not in named),
        skipped={slug: why for slug, why in skipped.items() if slug not in named},
        ignored=tuple(silenced),
    )
