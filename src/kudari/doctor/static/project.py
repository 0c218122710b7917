"""Classes of other files of the same project, found through imports; nothing is imported or run."""

from __future__ import annotations

import warnings
from collections import deque
from functools import lru_cache
from pathlib import Path

from kudari.doctor.static.reading import ClassFacts, Reading

# Folders above a file that may be where its absolute imports begin, and re-exports that are followed.
ROOTS, REEXPORTS = 3, 3
LARGEST_FILE = 500_000


def find_module_class(
    reading: Reading, name: str, depth: int = REEXPORTS
) -> tuple[Reading, ClassFacts] | None:
    """A Module class that a file imports, with the file it stands in.

    Args:
        reading: the file that uses the class.
        name: full dotted name, such as ``models.net.Net``; ``.net.Net`` for a relative import.
        depth: how many files that only hand the name on are followed.

    Returns:
        None where no file of the project defines it.
    """
    *module, last = name.lstrip(".").split(".")
    level = len(name) - len(name.lstrip("."))
    if (not module and not level) or not depth:
        return None
    for file in _files(Path(reading.path), level, module):
        other = _read(str(file), file.stat().st_mtime_ns)
        if other is None:
            return None
        if last in other.modules:
            return other, other.modules[last]
        handed_on = other.aliases.get(last)
        return find_module_class(other, handed_on, depth - 1) if handed_on else None
    return None


def file_of(reading: Reading, node: object) -> str:
    """Name of the file a node stands in and a colon, where it is not that of ``reading``; else empty."""
    if node in reading.parents:
        return ""
    found = (other for other in _known if node in other.parents)
    return next((f"{Path(other.path).name}:" for other in found), "")


def _files(user: Path, level: int, module: list[str]) -> list[Path]:
    folders = [user.parent, *user.parent.parents][: ROOTS + 1]
    if level:
        folders = folders[level - 1 : level]
    places = [folder.joinpath(*module) for folder in folders]
    found = [file for p in places for file in (p.with_suffix(".py"), p / "__init__.py") if p.name]
    return [file for file in found if file.is_file() and file.resolve() != user.resolve()][:1]


_known: deque[Reading] = deque(maxlen=256)


@lru_cache(maxsize=256)
def _read(file: str, changed: int) -> Reading | None:
    path = Path(file)
    if path.stat().st_size > LARGEST_FILE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reading = Reading(file, path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    _known.append(reading)
    return reading
