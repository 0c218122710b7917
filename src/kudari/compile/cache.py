"""Compiled kernels on disk, so that the first step of the second run need not wait for the compiler.

A file is named by a digest of everything that decides its content: program, CPU, versions, and the file's own
bytes are checked by a digest in front. A file that cannot be read or written is only a slower start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

_DIGEST = 32


def folder() -> Path | None:
    """Where kernels are kept: ``KUDARI_CACHE``, else the user's cache folder; None if switched off.

    Set ``KUDARI_CACHE=off`` to keep nothing on disk.
    """
    chosen = os.environ.get("KUDARI_CACHE", "")
    if chosen.lower() in ("off", "0", "none"):
        return None
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "kudari"
    except RuntimeError:  # no home folder
        return None


def load(key: str) -> bytes | None:
    """The kernel stored under a key, or None; a damaged file counts as absent."""
    place = folder()
    if place is None:
        return None
    try:
        raw = (place / f"{key}.o").read_bytes()
    except OSError:
        return None
    digest, data = raw[:_DIGEST], raw[_DIGEST:]
    return data if hashlib.sha256(data).digest() == digest else None


def save(key: str, data: bytes) -> None:
    """Store a kernel: written beside and moved into place, so that readers never see half a file."""
    place = folder()
    if place is None:
        return
    with contextlib.suppress(OSError):
        _replace(place / f"{key}.o", hashlib.sha256(data).digest() + data)


def write_text(path: Path, text: str) -> Path:
    """Make sure that a file has this text, and return its path.

    Raises:
        OSError: the file is not there and cannot be written.
    """
    data = text.encode()
    with contextlib.suppress(OSError):
        if path.read_bytes() == data:
            return path
    _replace(path, data)
    return path


def _replace(path: Path, data: bytes) -> None:
    """Write a file beside and move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
