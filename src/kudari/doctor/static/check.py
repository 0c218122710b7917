"""Read files and folders, and ask every judge of source."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from kudari.doctor.catalogue import illnesses
from kudari.doctor.comments import ignored_slugs
from kudari.doctor.diagnose import Diagnoses, as_finding, conclude
from kudari.doctor.finding import Finding
from kudari.doctor.static.baseline import read_baseline, without_known
from kudari.doctor.static.fixing import fixed
from kudari.doctor.static.reading import Reading
from kudari.errors import ArgumentError

SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", "build", "dist", ".tox"}
)

# Fixes in one file; a fix that does not silence its own finding must not repeat for ever.
MAX_FIXES = 20

# A file with none of these holds no training code; it is not even parsed.
WORTH_READING = ("backward(", "Module)", "DataLoader", "lr_scheduler", "dropout", "Softmax", "Loss(")


def python_files(path: Path) -> Iterator[Path]:
    """A file itself, or every ``.py`` file below a folder, in order."""
    if path.is_file():
        yield path
        return
    for item in sorted(path.iterdir()):
        if item.is_dir() and item.name not in SKIPPED_FOLDERS and not item.is_symlink():
            yield from python_files(item)
        elif item.suffix == ".py" and item.is_file():
            yield item


def read(path: str, source: str) -> Reading | None:
    """Parse one text; None where it is not Python, or never mentions torch."""
    if "torch" not in source or not any(word in source for word in WORTH_READING):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Reading(path, source)
    except (SyntaxError, ValueError, RecursionError):
        return None


def check_file(path: Path) -> tuple[Finding, ...]:
    """Every static finding of one file; nothing is imported or run."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ()
    linecache.checkcache(str(path))
    return check_source(str(path), source)


def check_source(path: str, source: str) -> tuple[Finding, ...]:
    """Every static finding of a text; ``path`` is shown in places."""
    reading = read(path, source)
    if reading is None:
        return ()
    found: list[Finding] = []
    for illness in illnesses().values():
        if illness.read is not None:
            found += [as_finding(illness, f) for f in illness.read(reading)]
    seen: dict[tuple[str, int | None], Finding] = {}
    for finding in found:
        seen.setdefault((finding.fault, finding.line), finding)
    return tuple(seen.values())


def fix_source(path: str, source: str, ignore: Iterable[str] = ()) -> tuple[str, tuple[str, ...]]:
    """Apply every certain fix to a text, one by one, reading it anew in between.

    Returns:
        The new text and the slugs that were fixed, in that order.
    """
    silent, done = frozenset(ignore), list[str]()
    for _ in range(MAX_FIXES):
        lines = source.splitlines()
        findings = [
            f for f in check_source(path, source)
            if f.fault not in silent and not (f.line and _is_silenced(f, lines[f.line - 1]))
        ]  # fmt: skip
        new, slug = fixed(path, source, findings)
        if not slug:
            break
        source, done = new, [*done, slug]
    return source, tuple(done)


def _is_silenced(finding: Finding, line: str) -> bool:
    slugs = ignored_slugs(line)
    return slugs is not None and (not slugs or finding.fault in slugs)


def check_path(path: Path, *, ignore: Iterable[str] = (), baseline: Path | None = None) -> Diagnoses:
    """Check a file or a folder.

    Args:
        path: a Python file, or a folder that is searched for them.
        ignore: slugs to leave out.
        baseline: a file written by ``--write-baseline``; findings listed there are left out.

    Raises:
        ArgumentError: the path does not exist, or the baseline cannot be read.
    """
    if not path.exists():
        raise ArgumentError(f"{path} does not exist.", fix="Pass a Python file or a folder.")
    found: list[Finding] = []
    files = 0
    for file in python_files(path):
        files += 1
        # Suppression is between findings of one program, here one file.
        found += conclude((), (), {}, check_file(file), ignore).findings
    if baseline is not None:
        found = without_known(found, read_baseline(baseline))
    static = [slug for slug, known in illnesses().items() if known.read is not None]
    named = {f.fault for f in found}
    return Diagnoses(
        findings=tuple(found),
        passed=tuple(slug for slug in static if slug not in named) if files else (),
        skipped={
            s: "only a run shows it; see `kudari doctor`" for s, k in illnesses().items() if k.read is None
        },
    )
