"""Read files and folders, and ask every judge of source."""

from __future__ import annotations

import linecache
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from kudari.doctor.catalogue import illnesses
from kudari.doctor.comments import ignored_slugs
from kudari.doctor.diagnose import Diagnoses, as_finding, conclude
from kudari.doctor.finding import Finding
from kudari.doctor.static.baseline import read_baseline, without_known
from kudari.doctor.static.fixing import fixed
from kudari.doctor.static.reading import Reading
from kudari.errors import ArgumentError
from kudari.garbage import uncollected

SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", "build", "dist", ".tox"}
)

# Fixes in one file; a fix that does not silence its own finding must not repeat for ever.
MAX_FIXES = 20

# From here on a second process saves more than its start costs; it is given so many files at a time.
MANY_FILES, PART = 300, 40

# What a text must hold for any static judge to find something; a file without is not even parsed.
WORTH_READING = re.compile(
    r"\.backward\(|autograd\.backward|lr_scheduler|DistributedSampler|NLLLoss|nll_loss|WithLogits|with_logits"
    r"|dropout(?:\dd)?\(|dropout_p=|DataLoader\(|CrossEntropyLoss|cross_entropy\(|Softmax\("
)
MODULE = re.compile(r"class \w+\([^)]*Module")
IN_MODULE = re.compile(
    r"def (?:train|eval)\(|self\.\w+(?:\s*:[^=\n]+)?\s*=\s*(?:[\[{(]|list\(|dict\()|softmax\("
)


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
    if "torch" not in source:
        return None
    if not WORTH_READING.search(source) and not (MODULE.search(source) and IN_MODULE.search(source)):
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


def _check_part(files: Sequence[Path], ignore: tuple[str, ...]) -> list[Finding]:
    """Findings of some files; a syntax tree has no cycles, so the collector would only search in vain."""
    with uncollected():
        # Suppression is between findings of one program, here one file.
        return [f for file in files for f in conclude((), (), {}, check_file(file), ignore).findings]


def _in_parts(files: Sequence[Path], ignore: tuple[str, ...], processes: int) -> Iterator[list[Finding]]:
    if processes < 2 or len(files) < MANY_FILES:
        yield _check_part(files, ignore)
        return
    parts = [files[i : i + PART] for i in range(0, len(files), PART)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_check_part, parts, [ignore] * len(parts))


def check_paths(
    paths: Sequence[Path], *, ignore: Iterable[str] = (), baseline: Path | None = None, processes: int = 1
) -> Diagnoses:
    """Check files and folders.

    Args:
        paths: Python files, or folders that are searched for them.
        ignore: slugs to leave out.
        baseline: a file written by ``--write-baseline``; findings listed there are left out.
        processes: how many read at the same time where there are hundreds of files. Above 1 the calling
            program's main module must be safe to import.

    Raises:
        ArgumentError: a path does not exist, or the baseline cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise ArgumentError(f"{path} does not exist.", fix="Pass a Python file or a folder.")
    files = list(dict.fromkeys(file for path in paths for file in python_files(path)))
    found = [f for part in _in_parts(files, tuple(ignore), processes) for f in part]
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
