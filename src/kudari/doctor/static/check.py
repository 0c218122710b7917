"""Read files and folders, and ask every judge of source."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from kudari.doctor.catalogue import illnesses
from kudari.doctor.diagnose import Diagnoses, as_finding, conclude
from kudari.doctor.finding import Finding
from kudari.doctor.static.baseline import read_baseline, without_known
from kudari.doctor.static.reading import Reading
from kudari.errors import ArgumentError

SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", "build", "dist", ".tox"}
)

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


def read(path: Path) -> Reading | None:
    """Parse one file; None where it is not Python, or never mentions torch."""
    try:
        source = path.read_text(encoding="utf-8")
        if "torch" not in source or not any(word in source for word in WORTH_READING):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Reading(str(path), source)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def check_file(path: Path) -> tuple[Finding, ...]:
    """Every static finding of one file; nothing is imported or run."""
    reading = read(path)
    if reading is None:
        return ()
    linecache.checkcache(str(path))
    found: list[Finding] = []
    for illness in illnesses().values():
        if illness.read is not None:
            found += [as_finding(illness, f) for f in illness.read(reading)]
    seen: dict[tuple[str, int | None], Finding] = {}
    for finding in found:
        seen.setdefault((finding.fault, finding.line), finding)
    return tuple(seen.values())


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
