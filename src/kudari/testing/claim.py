"""A claim: one thing that an exam looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One thing the exam looked at.

    Attributes:
        name: short, such as ``finite`` or ``holds``.
        passed: whether it is true of the subject.
        detail: the first counterexample, empty if it passed.
    """

    name: str
    passed: bool
    detail: str = ""
