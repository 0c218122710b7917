"""Where in the user's code something happened, cheap enough to ask at every event."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

from kudari.doctor.finding import Place

_KUDARI = str(Path(__file__).resolve().parent.parent) + os.sep
_STDLIB = str(Path(sysconfig.get_paths()["stdlib"])) + os.sep
_known: dict[str, bool] = {}


class Site(NamedTuple):
    """A point in a code object: what a frame was executing."""

    code: CodeType
    lasti: int


def _is_user(code: CodeType) -> bool:
    name = code.co_filename
    foreign = (
        "site-packages" in name
        or "dist-packages" in name
        or name.startswith((_KUDARI, _STDLIB, "<frozen", "<string>", "<attrs", "<__"))
    )
    return not foreign


def is_user(code: CodeType) -> bool:
    """True for code that is neither torch, nor Kudari, nor the standard library, nor installed."""
    known = _known.get(code.co_filename)
    if known is None:
        known = _known[code.co_filename] = _is_user(code)
    return known


def user_frame(depth: int = 2) -> FrameType | None:
    """The innermost frame of user code, starting ``depth`` frames above this function."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None:
        code = frame.f_code
        known = _known.get(code.co_filename)
        if known or (known is None and is_user(code)):
            return frame
        frame = frame.f_back
    return None


def user_site(depth: int = 2) -> Site | None:
    """The point in user code that led here; None when there is none on the stack."""
    frame = user_frame(depth + 1)
    return None if frame is None else Site(frame.f_code, frame.f_lasti)


def caller_site(depth: int = 2) -> Site | None:
    """The point that called the caller of this function, where it is user code itself; else None."""
    frame = sys._getframe(depth)
    return Site(frame.f_code, frame.f_lasti) if is_user(frame.f_code) else None


def call_chain(depth: int = 2, limit: int = 12) -> tuple[Site, ...]:
    """The user's frames that led here, innermost first."""
    chain: list[Site] = []
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and len(chain) < limit:
        if is_user(frame.f_code):
            chain.append(Site(frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(chain)


def place(site: Site | None) -> Place | None:
    """File, line and columns of a site."""
    # Equal code in two files compares equal, so the name of the file belongs to the key.
    return None if site is None else _place(site.code.co_filename, site)


@lru_cache(maxsize=4096)
def _place(file: str, site: Site) -> Place:
    code, lasti = site
    line, end_line, column, end_column = next(
        islice(code.co_positions(), lasti // 2, None), (None, None, None, None)
    )
    if line is None:
        return Place(file, code.co_firstlineno)
    if column is None or end_column is None:
        return Place(file, line)
    text = linecache.getline(file, line).rstrip("\n")
    # co_positions counts UTF-8 bytes; the caret counts characters.
    start = len(text.encode()[:column].decode(errors="replace"))
    end = len(text.encode()[:end_column].decode(errors="replace")) if end_line == line else len(text)
    return Place(file, line, start, max(end, start + 1))


def source_line(file: str, line: int) -> str:
    """The text of one line, without its newline; empty when it cannot be read."""
    return linecache.getline(file, line).rstrip("\n")
