"""Small pieces of the sentences that data sets say about themselves."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun.

    Example:
        >>> count(1, "class", "classes"), count(1437, "sample")
        ('1 class', '1,437 samples')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def some(items: Sequence[object], limit: int = 5) -> str:
    """Return the first items, and how many more there are.

    Example:
        >>> some(["a", "b", "c"], limit=2)
        'a, b and 1 more'
        >>> some(["a", "b"])
        'a and b'
    """
    texts = [str(item) for item in items]
    if len(texts) > limit:
        return f"{', '.join(texts[:limit])} and {len(texts) - limit:,} more"
    if len(texts) > 1:
        return f"{', '.join(texts[:-1])} and {texts[-1]}"
    return "".join(texts)
