"""HTML and SVG elements as values: text is escaped unless it already is markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})
"""Elements of HTML that have no end tag."""


class Markup(str):
    """Text that is already HTML and is put into a page as it is."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"
Value = str | float | bool | None


def escape(text: str) -> Markup:
    """Escape text for element content and quoted attributes; markup passes through.

    Example:
        >>> escape("a < b")
        'a &lt; b'
    """
    return text if isinstance(text, Markup) else Markup(html.escape(text, quote=True))


def join(parts: Iterable[Child]) -> Markup:
    """Concatenate children; plain strings are escaped, None is left out."""
    found: list[str] = []
    for part in parts:
        if part is None:
            continue
        found.append(escape(part) if isinstance(part, str) else join(part))
    return Markup("".join(found))


def element(name: str, /, *children: Child, **attributes: Value) -> Markup:
    """One element.

    Args:
        name: tag name.
        children: text (escaped), markup, or iterables of them.
        attributes: an underscore in a name becomes a hyphen and a trailing one is dropped (``class_``);
            True writes the bare name; None and False leave the attribute out; numbers are written short.

    Example:
        >>> element("p", "1 < 2", class_="note")
        '<p class="note">1 &lt; 2</p>'
    """
    head = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            head.append(attribute)
        else:
            head.append(f'{attribute}="{escape(value if isinstance(value, str) else short(value))}"')
    start = f"<{' '.join(head)}>"
    if name in VOID:
        return Markup(start)
    return Markup(f"{start}{join(children)}</{name}>")


def short(number: float) -> str:
    """A coordinate with at most two decimals and no trailing zeros.

    Example:
        >>> short(12.50), short(3), short(0.001)
        ('12.5', '3', '0')
    """
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
