"""``# kudari: ignore[slug]`` on the reported line silences a finding."""

from __future__ import annotations

import re

from kudari.doctor.finding import Finding
from kudari.doctor.places import source_line

_IGNORE = re.compile(r"#\s*kudari:\s*ignore(?:\[([^\]]*)\])?")


def ignored_slugs(line: str) -> frozenset[str] | None:
    """The slugs a line ignores; an empty set means all of them, None means no comment.

    Example:
        >>> sorted(ignored_slugs("loss.backward()  # kudari: ignore[graph-cut, plateau]"))
        ['graph-cut', 'plateau']
    """
    match = _IGNORE.search(line)
    if match is None:
        return None
    return frozenset(name.strip() for name in (match[1] or "").split(",") if name.strip())


def is_ignored(finding: Finding) -> bool:
    """True when the line the finding points at carries a comment for it."""
    if finding.file is None or finding.line is None:
        return False
    slugs = ignored_slugs(source_line(finding.file, finding.line))
    return slugs is not None and (not slugs or finding.fault in slugs)
