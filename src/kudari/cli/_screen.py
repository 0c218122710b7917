"""Printing for people: colour on a terminal that wants it, plain text everywhere else."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

WIDTH = 100

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def wants_colour(stream: TextIO) -> bool:
    """Whether to colour: a terminal, no ``NO_COLOR`` (https://no-color.org), not ``TERM=dumb``."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


class Screen:
    """Writes to one stream.

    Args:
        stream: standard output by default; standard error where standard output carries data.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self._colour = wants_colour(self.stream)

    def paint(self, text: str, style: str) -> str:
        """Text in a style (``bold``, ``dim``, ``red`` ...), unchanged where there is no colour."""
        return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if self._colour and text else text

    def say(self, text: str = "", style: str = "", indent: int = 0) -> None:
        """Print a paragraph, wrapped between words only where it is longer than a line."""
        pad = " " * indent
        for line in text.split("\n"):
            wrapped = textwrap.wrap(
                line, WIDTH, initial_indent=pad, subsequent_indent=pad,
                break_long_words=False, break_on_hyphens=False, replace_whitespace=False,
                drop_whitespace=True,
            )  # fmt: skip
            for part in wrapped or [""]:
                print(self.paint(part, style) if style else part, file=self.stream)

    def command(self, text: str) -> None:
        """Print a shell command on its own line, never wrapped, ready to be copied."""
        print("  " + self.paint(text, "cyan"), file=self.stream)

    def pairs(self, rows: Sequence[tuple[str, str]], indent: int = 2) -> None:
        """Print names and values in two columns; long values go on under themselves."""
        width = max((len(name) for name, _ in rows), default=0) + 2
        for name, value in rows:
            body = textwrap.wrap(value, max(30, WIDTH - indent - width), break_long_words=False) or [""]
            head = " " * indent + self.paint(name.ljust(width), "dim")
            print(head + body[0], file=self.stream)
            for line in body[1:]:
                print(" " * (indent + width) + line, file=self.stream)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
        """Print columns; those numbered in ``right`` are aligned to the right."""
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

        def line(cells: Sequence[str]) -> str:
            parts = [
                c.rjust(w) if i in right else c.ljust(w)
                for i, (c, w) in enumerate(zip(cells, widths, strict=True))
            ]
            return "  ".join(parts).rstrip()

        print(self.paint(line(header), "dim"), file=self.stream)
        for row in rows:
            print(line(row), file=self.stream)
