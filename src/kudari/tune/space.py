"""What a search may choose from, as people write it: ``lr=1e-4..1e-2``, ``model.width=64,128``. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kudari.errors import ArgumentError

LOG_FROM = 10.0
"""A range whose end is at least this many times its beginning is searched in ratios, not in differences."""


@dataclass(frozen=True)
class Between:
    """Every number from ``low`` to ``high``, both included; ``whole`` numbers only, in ratios if ``log``."""

    low: float
    high: float
    whole: bool
    log: bool


@dataclass(frozen=True)
class OneOf:
    """One of several values, each as it would be written in a configuration."""

    values: tuple[str, ...]


Choices = Between | OneOf


def is_space(word: str) -> bool:
    """Whether ``key=value`` names several values: a range ``a..b``, or alternatives ``a,b`` outside brackets.

    Example:
        >>> [is_space(w) for w in ("lr=1e-4..1e-2", "model.width=64,128", "model.widths=[64,128]")]
        [True, True, False]
    """
    _, equals, value = word.partition("=")
    return bool(equals) and (_is_range(value) or len(_split(value)) > 1)


def read_space(word: str) -> tuple[str, Choices]:
    """Read one ``key=a..b`` or ``key=a,b,c``.

    Raises:
        ArgumentError: the two ends are no numbers, or not in order.

    Example:
        >>> read_space("lr=1e-4..1e-2")
        ('lr', Between(low=0.0001, high=0.01, whole=False, log=True))
        >>> read_space("model.widths=[64],[64,64]")
        ('model.widths', OneOf(values=('[64]', '[64,64]')))
    """
    key, _, value = word.partition("=")
    if not _is_range(value):
        return key, OneOf(tuple(_split(value)))
    first, _, last = value.partition("..")
    try:
        low, high = float(first), float(last)
    except ValueError:
        raise ArgumentError(
            f"{word}: {value!r} is no range of numbers.",
            fix="Write it like lr=1e-4..1e-2 or model.width=64..256.",
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError(f"{word}: {first} is not below {last}.", fix="Write the lower end first.")
    whole = all(text.strip().lstrip("+-").isdigit() for text in (first, last))
    return key, Between(low, high, whole, low > 0 and high >= LOG_FROM * low)


def ends(choices: Choices) -> tuple[str, ...]:
    """All alternatives, or both ends of the range, as they would be written in a configuration.

    Example:
        >>> ends(read_space("model.width=64..256")[1]), ends(read_space("lr=3,1e-2")[1])
        (('64', '256'), ('3', '1e-2'))
    """
    if isinstance(choices, OneOf):
        return choices.values
    return tuple(str(int(v)) if choices.whole else f"{v:.6g}" for v in (choices.low, choices.high))


def suggest(trial: Any, key: str, choices: Choices) -> str:
    """Let an Optuna trial choose; the value as it would be written in a configuration."""
    if isinstance(choices, OneOf):
        return str(trial.suggest_categorical(key, list(choices.values)))
    if choices.whole:
        return str(trial.suggest_int(key, int(choices.low), int(choices.high), log=choices.log))
    return f"{trial.suggest_float(key, choices.low, choices.high, log=choices.log):.6g}"


def _is_range(value: str) -> bool:
    return ".." in value and "," not in value and not value.startswith((".", "/", "~", "'", '"'))


def _split(value: str) -> list[str]:
    """At commas outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in value:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
