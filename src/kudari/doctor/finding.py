"""What an illness is, what a judge may say about a run, and what the user is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from kudari.doctor.static.reading import Reading
    from kudari.doctor.track.run import RunFacts

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Place:
    """A span of one line of source; columns count from 0, and are None where unknown."""

    file: str
    line: int
    column: int | None = None
    end_column: int | None = None


@dataclass(frozen=True)
class Skipped:
    """A judge's word for "not applicable" or "not enough evidence", with the reason."""

    why: str


@dataclass(frozen=True)
class Found:
    """One cause seen by a judge, before suppression.

    Attributes:
        message: one sentence that stands alone.
        place: where the user wrote it; None where no frame of theirs was on the stack.
        evidence: numbers by name; ``count`` and ``first_step`` when the fault repeats.
        fix: the prescription, as code where possible.
        label: short text beside the caret.
        severity: overrides the illness's own level.
        subjects: identities of the optimizers and models concerned; suppression happens between
            findings that share one, and a finding without subjects shares with all.
    """

    message: str
    place: Place | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    fix: str = ""
    label: str = ""
    severity: Severity | None = None
    subjects: frozenset[int] = frozenset()


Verdict = list[Found] | Skipped


@dataclass(frozen=True)
class Finding:
    """One finding as users, reports and programs see it."""

    fault: str
    severity: Severity
    message: str
    file: str | None
    line: int | None
    evidence: Mapping[str, Any]
    fix: str
    suppressed_by: str | None = None
    label: str = ""
    unless: str = ""
    column: int | None = None
    end_column: int | None = None
    explains: tuple[str, ...] = ()
    subjects: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Manual:
    """The manual page of an illness.

    Attributes:
        sees: what is observed and the thresholds.
        hurts: why it matters.
        fix: the prescription.
        unless: when it is no fault.
    """

    sees: str
    hurts: str
    fix: str
    unless: str


@dataclass(frozen=True)
class Runs:
    """Small scripts that the public exam runs: the sick one, its cure, and a healthy relative.

    Attributes:
        sick: source of a script in which this finding, and no other, must be reported.
        cure: replacements ``(old, new)`` that apply the prescription to the sick script.
        healthy: source of a script close to the sick one in which nothing is reported.
    """

    sick: str
    cure: tuple[tuple[str, str], ...]
    healthy: str

    def cured(self) -> str:
        """The sick script with the prescription applied.

        Raises:
            ValueError: a replacement does not occur in the sick script.
        """
        text = self.sick
        for old, new in self.cure:
            if old not in text:
                raise ValueError(f"the cure replaces {old!r}, which the sick run does not contain")
            text = text.replace(old, new)
        return text


@dataclass(frozen=True)
class Illness:
    """One fault of the catalogue: its level, its manual, its judges and its runs.

    Attributes:
        slug: stable public name in kebab-case.
        severity: level unless the judge says otherwise.
        manual: the page printed by ``kudari explain``.
        judge: decides over the facts of a watched run; None when only source shows it.
        read: decides over source without running it; None when only a run shows it.
        runs: the scripts of the exam; None where a run needs what a plain machine lacks.
    """

    slug: str
    severity: Severity
    manual: Manual
    judge: Callable[[RunFacts], Verdict] | None = None
    read: Callable[[Reading], list[Found]] | None = None
    runs: Runs | None = None
