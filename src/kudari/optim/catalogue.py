"""The optimizers there are: one for each file in ``kudari/rules``."""

from __future__ import annotations

import functools

import kudari.rules
from kudari.compile.discover import discover
from kudari.compile.notation import Rule
from kudari.errors import ArgumentError, did_you_mean
from kudari.optim.make import classes
from kudari.optim.optimizer import RuleOptimizer


@functools.cache
def rules() -> tuple[Rule, ...]:
    """Every rule, in the order of their files' names."""
    return discover(kudari.rules)


CLASSES: dict[str, type[RuleOptimizer]] = classes(rules(), "kudari.optim")


def names() -> tuple[str, ...]:
    """Names that :func:`get` takes: the classes' names in lower case.

    Example:
        >>> "adamw" in names()
        True
    """
    return tuple(name.lower() for name in CLASSES)


def get(name: str) -> type[RuleOptimizer]:
    """The optimizer class of a name; upper and lower case, ``-`` and ``_`` make no difference.

    Raises:
        ArgumentError: there is no such optimizer.

    Example:
        >>> get("adamw").__name__
        'AdamW'
    """
    table = {key.lower(): value for key, value in CLASSES.items()}
    wanted = name.lower().replace("-", "").replace("_", "")
    if wanted not in table:
        raise ArgumentError(
            f"There is no optimizer called {name!r}.{did_you_mean(wanted, table)}",
            fix=f"Choose one of {', '.join(table)}.",
        )
    return table[wanted]
