"""Finding the run that a user means."""

from __future__ import annotations

from pathlib import Path

from kudari.errors import ArgumentError, did_you_mean
from kudari.record import RunDir

ROOT = Path("runs")


def find_run(text: str) -> RunDir:
    """The run of a path, of a file inside it, or of a bare name under ``runs/``.

    Raises:
        ArgumentError: there is no such run; names the ones there are.
    """
    path = Path(text).expanduser()
    candidates = (path, path.parent if path.is_file() else path, ROOT / text)
    for candidate in candidates:
        if candidate.is_dir() and (candidate / "config.yaml").is_file():
            return RunDir(candidate)
    names = run_names()
    close = did_you_mean(path.name, names)
    if path.is_dir():
        what = f"{text} is a folder, but not one of a run: it has no config.yaml."
    else:
        what = f"There is no run {text!r}."
    there = f"Runs here: {', '.join(names[-5:])}." if names else "Train one with: kudari train"
    raise ArgumentError(what + close, fix=there)


def run_names() -> list[str]:
    """Names of the runs under ``runs/``, the oldest first."""
    if not ROOT.is_dir():
        return []
    found = [p for p in ROOT.iterdir() if (p / "config.yaml").is_file()]
    return [p.name for p in sorted(found, key=lambda p: (p / "config.yaml").stat().st_mtime)]
