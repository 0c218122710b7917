"""A small subset of LaTeX as MathML, which browsers draw without help from the network.

Understood: fractions, roots, sub- and superscripts, Greek letters, accents, named functions, fences,
the arrows and relations of update rules, and lines (``\\\\``) aligned at ``&``. Anything else raises
:class:`NotUnderstood`, so that a page shows the source instead of a wrong formula.
"""

from __future__ import annotations

import re

from kudari.report.latex_names import (
    ACCENTS,
    FENCES,
    FUNCTIONS,
    GREEK,
    IGNORED,
    LINES,
    OPERATORS,
    SPACES,
    STYLES,
    TEXTS,
)
from kudari.report.markup import Markup, element, join


class NotUnderstood(ValueError):  # noqa: N818  # not an error of the user: the caller falls back to the source
    """A piece of LaTeX outside the subset."""


TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|[0-9]+(?:\.[0-9]+)?|\s+|.", re.DOTALL)


def to_mathml(latex: str) -> Markup:
    """Convert a formula; several lines become a table aligned at ``&``.

    Args:
        latex: LaTeX of display mathematics, with or without ``$``, ``\\[ \\]`` or an ``aligned`` environment.

    Raises:
        NotUnderstood: a command outside the subset, or braces that do not match.

    Example:
        >>> str(to_mathml(r"\\frac{1}{2}"))
        '<math display="block"><mfrac><mn>1</mn><mn>2</mn></mfrac></math>'
    """
    text = latex.strip()
    for start, end in (("$$", "$$"), ("\\[", "\\]"), ("$", "$")):
        if text.startswith(start) and text.endswith(end) and len(text) > len(start) + len(end):
            text = text[len(start) : -len(end)].strip()
    parser = _Parser([t for t in TOKEN.findall(text) if not t.isspace() or t == " "])
    body = parser.table(until=None)
    return element("math", body, display="block")


class _Parser:
    """Recursive descent over the tokens; every method returns the MathML of what it consumed."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> str | None:
        """The next piece that is not a space, None at the end."""
        while self.at < len(self.tokens) and self.tokens[self.at] == " ":
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> str:
        piece = self.peek()
        if piece is None:
            raise NotUnderstood("the formula ends too early")
        self.at += 1
        return piece

    def expect(self, wanted: str) -> None:
        found = self.take()
        if found != wanted:
            raise NotUnderstood(f"expected {wanted!r}, found {found!r}")

    def raw_group(self) -> str:
        """The text between braces as it stands, for ``\\text`` and ``\\operatorname``."""
        self.expect("{")
        depth = 1
        found: list[str] = []
        while True:
            if self.at >= len(self.tokens):
                raise NotUnderstood("a brace is not closed")
            piece = self.tokens[self.at]
            self.at += 1
            depth += (piece == "{") - (piece == "}")
            if depth == 0:
                return "".join(found)
            if piece.startswith("\\") and piece[1:] not in {"_", "%", "&", " ", ",", "#"}:
                raise NotUnderstood(f"{piece} inside text")
            if piece not in "{}":
                found.append(" " if piece in ("\\ ", "\\,") else piece.removeprefix("\\"))

    def table(self, until: str | None) -> Markup:
        """Rows and cells up to ``\\end`` or the end; a single cell stays a plain row."""
        rows: list[list[Markup]] = [[]]
        while True:
            rows[-1].append(row(self.row({"&", "\\\\", "\\end"})))
            piece = self.peek()
            if piece is None:
                if until is not None:
                    raise NotUnderstood(f"\\begin{{{until}}} is not ended")
                break
            self.at += 1
            if piece == "\\end":
                if self.raw_group() != until:
                    raise NotUnderstood("\\end does not match \\begin")
                break
            if piece == "\\\\":
                if self.peek() == "[":
                    while self.take() != "]":
                        pass
                rows.append([])
        while len(rows) > 1 and not any(rows[-1]):
            rows.pop()
        if len(rows) == 1 and len(rows[0]) == 1:
            return rows[0][0]
        cells = [element("mtr", [element("mtd", cell) for cell in line]) for line in rows]
        return element("mtable", cells, class_="cases" if until == "cases" else "lines", displaystyle="true")

    def row(self, stop: set[str]) -> list[Markup]:
        """Items up to a stopping piece, which is left for the caller."""
        items: list[Markup] = []
        while True:
            piece = self.peek()
            if piece is None or piece in stop:
                return items
            if piece == "}" or piece == "\\right":
                raise NotUnderstood(f"{piece} without its beginning")
            items.append(self.scripted())

    def scripted(self) -> Markup:
        """One atom with the scripts behind it."""
        piece = self.peek()
        base = element("mrow") if piece in ("^", "_") else self.atom()
        lower: Markup | None = None
        upper: Markup | None = None
        while (piece := self.peek()) in ("^", "_", "'"):
            self.at += 1
            if piece == "_":
                if lower is not None:
                    raise NotUnderstood("two subscripts")
                lower = self.argument()
            else:
                script = self.argument() if piece == "^" else element("mo", "′")
                upper = script if upper is None else element("mrow", upper, script)
        above = base in UNDER
        if lower is not None and upper is not None:
            return element("munderover" if above else "msubsup", base, lower, upper)
        if lower is not None:
            return element("munder" if above else "msub", base, lower)
        if upper is not None:
            return element("mover" if above else "msup", base, upper)
        return base

    def argument(self) -> Markup:
        """A group in braces or a single atom."""
        piece = self.peek()
        if piece is not None and len(piece) > 1 and piece.isdigit():
            # LaTeX takes one digit: x^23 is x² followed by 3.
            self.tokens[self.at : self.at + 1] = list(piece)
        return self.atom()

    def atom(self) -> Markup:
        piece = self.take()
        if piece == "{":
            if self.peek() == "\\rm":
                raise NotUnderstood("\\rm")
            items = self.row({"}"})
            self.expect("}")
            return row(items)
        if piece.startswith("\\"):
            return self.command(piece[1:])
        if piece[0].isdigit():
            return element("mn", piece)
        if piece.isalpha():
            return element("mi", piece)
        if piece == "-":
            return element("mo", "−")
        if piece in "()[]":
            return element("mo", piece, stretchy="false")
        if piece in "+=<>,;:!/*|.":
            return element("mo", piece)
        if piece == "~":
            return element("mspace", width="0.3em")
        raise NotUnderstood(f"the character {piece!r}")

    def command(self, name: str) -> Markup:
        if name in GREEK:
            upright = name[0].isupper() or name in {"infty", "nabla", "partial", "top", "emptyset"}
            return element("mi", GREEK[name], mathvariant="normal" if upright else None)
        if name in OPERATORS:
            return element("mo", OPERATORS[name])
        if name in FUNCTIONS:
            return self.function(name)
        if name in SPACES:
            return element("mspace", width=SPACES[name])
        if name in IGNORED:
            return join([])
        if name in TEXTS:
            # Browsers trim plain spaces at the ends of text.
            return element("mtext", self.raw_group().replace(" ", "\u00a0"))
        if name in STYLES:
            return self.styled(name)
        if name in ACCENTS:
            mark = element(
                "mo", ACCENTS[name], stretchy="true" if name.startswith(("wide", "over")) else "false"
            )
            return element("mover", self.argument(), mark, accent="true")
        if "\\" + name in FENCES:
            return element("mo", FENCES["\\" + name], stretchy="false")
        if name in STRUCTURES:
            return STRUCTURES[name](self)
        raise NotUnderstood(f"\\{name}")

    def function(self, name: str) -> Markup:
        """A named function: upright, with a thin space before an argument without parentheses."""
        found = element("mi", name, mathvariant="normal") if len(name) == 1 else element("mi", name)
        if self.peek() in ("(", "\\left", "[", "{", "_", "^", "\\{", "\\lbrace", None, ")", "}"):
            return found
        return element("mrow", found, element("mspace", width="0.17em"))

    def styled(self, name: str) -> Markup:
        text = self.raw_group() if self.peek() == "{" else self.take()
        if text.startswith("\\"):
            text = GREEK.get(text[1:], text)
        if not text or "\\" in text:
            raise NotUnderstood(f"\\{name} of {text!r}")
        if name == "operatorname":
            return self.function(text)
        if text.isdigit():
            return element("mn", text)
        style = STYLES[name]
        variant = "normal" if style != "italic" and len(text) == 1 else None
        return element("mi", text, mathvariant=variant, class_="bold" if style == "bold" else None)

    def fraction(self) -> Markup:
        return element("mfrac", self.argument(), self.argument())

    def root(self) -> Markup:
        if self.peek() != "[":
            return element("msqrt", self.argument())
        self.take()
        degree = row(self.row({"]"}))
        self.expect("]")
        return element("mroot", self.argument(), degree)

    def fenced(self) -> Markup:
        start = self.fence()
        items = self.row({"\\right"})
        self.expect("\\right")
        end = self.fence()
        return element("mrow", _fence(start, "prefix"), items, _fence(end, "postfix"))

    def fence(self) -> str:
        piece = self.take()
        if piece not in FENCES:
            raise NotUnderstood(f"the fence {piece!r}")
        return FENCES[piece]

    def environment(self) -> Markup:
        name = self.raw_group()
        if name in LINES:
            if name == "array":
                self.raw_group()
            return self.table(until=name)
        if name == "cases":
            return element("mrow", _fence("{", "prefix"), self.table(until=name))
        raise NotUnderstood(f"\\begin{{{name}}}")

    def mathbb(self) -> Markup:
        text = self.raw_group() if self.peek() == "{" else self.take()
        letters = {"R": "ℝ", "E": "𝔼", "N": "ℕ", "Z": "ℤ", "C": "ℂ", "P": "ℙ", "1": "𝟙", "V": "𝕍"}
        if text not in letters:
            raise NotUnderstood(f"\\mathbb{{{text}}}")
        return element("mi", letters[text], mathvariant="normal")

    def underbrace(self) -> Markup:
        braced = element("munder", self.argument(), element("mo", "⏟", stretchy="true"))
        if self.peek() != "_":
            return braced
        self.take()
        return element("munder", braced, self.argument())


STRUCTURES = {
    "frac": _Parser.fraction,
    "dfrac": _Parser.fraction,
    "tfrac": _Parser.fraction,
    "sqrt": _Parser.root,
    "left": _Parser.fenced,
    "begin": _Parser.environment,
    "mathbb": _Parser.mathbb,
    "underbrace": _Parser.underbrace,
}


def _fence(text: str, form: str) -> Markup | None:
    return element("mo", text, form=form, fence="true", stretchy="true") if text else None


def row(items: list[Markup]) -> Markup:
    """One item as it is, several in an ``mrow``."""
    kept = [item for item in items if item]
    return kept[0] if len(kept) == 1 else element("mrow", kept)


UNDER = frozenset(
    [element("mo", OPERATORS[n]) for n in ("sum", "prod")]
    + [element("mi", n) for n in ("max", "min", "lim", "sup", "inf")]
)
"""Bases whose scripts stand below and above."""
