"""Edits of source text by lines and spans, and the diff that shows them."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """Characters ``start`` to ``end`` of a text become ``text``; equal ends insert."""

    start: int
    end: int
    text: str


class Source:
    """A text with the offsets of its lines."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """Offset of a position as the parser counts it: lines from 1, columns in bytes of UTF-8."""
        before = self.lines[line - 1].encode()[:column].decode(errors="replace")
        return self._starts[line - 1] + len(before)

    def of(self, node: ast.expr | ast.stmt) -> str:
        """The text of a node as it was typed."""
        start, end = self.span(node)
        return self.text[start:end]

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """First and last offset of a node."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def replaced(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        """A node gets another text."""
        return Edit(*self.span(node), text)

    def stands_alone(self, statement: ast.stmt) -> bool:
        """True where nothing else is on the lines of a statement but a comment."""
        start, end = self.span(statement)
        assert statement.end_lineno is not None
        before = self.text[self._starts[statement.lineno - 1] : start]
        after = self.text[end : self._starts[statement.end_lineno]].strip()
        return not before.strip() and (not after or after.startswith("#"))

    def indent(self, statement: ast.stmt) -> str:
        """The white space before a statement."""
        line = self.lines[statement.lineno - 1]
        return line[: len(line) - len(line.lstrip())]

    def before(self, statement: ast.stmt, text: str) -> Edit:
        """A line of its own before a statement, or before the decorators of a function."""
        line = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
        return Edit(self._starts[line - 1], self._starts[line - 1], f"{self.indent(statement)}{text}\n")

    def after(self, statement: ast.stmt, text: str) -> Edit:
        """A line of its own after a statement."""
        assert statement.end_lineno is not None
        at = self._starts[statement.end_lineno]
        ends = self.text[:at].endswith("\n")
        return Edit(at, at, f"{'' if ends else chr(10)}{self.indent(statement)}{text}\n")

    def removed(self, statement: ast.stmt) -> Edit:
        """The lines of a statement go, with their comment."""
        assert statement.end_lineno is not None
        return Edit(self._starts[statement.lineno - 1], self._starts[statement.end_lineno], "")

    def apply(self, edits: Sequence[Edit]) -> str:
        """The text after edits that do not overlap.

        Raises:
            ValueError: two edits overlap.
        """
        text, upto = self.text, len(self.text) + 1
        for edit in sorted(edits, key=lambda e: (e.start, e.end), reverse=True):
            if edit.end > upto:
                raise ValueError("edits overlap")
            text, upto = text[: edit.start] + edit.text + text[edit.end :], edit.start
        return text


def diff(old: str, new: str, path: str) -> str:
    """Unified diff of two versions of a file; empty where they are equal."""
    path = path.removeprefix("/")
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)
