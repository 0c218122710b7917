"""Every error Kudari raises on purpose: what is wrong, why it matters, what to do.

Each class is also the built-in exception that users of this ecosystem already catch, so
``except ValueError`` around an optimizer's constructor keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class KudariError(Exception):
    """Base of all errors raised on purpose.

    Args:
        what: the fact, with name, value and allowed range.
        why: why it matters, where that is not obvious.
        fix: what to do about it.

    Example:
        >>> str(KudariError("lr=-1.0 is below 0.", fix="Pass a learning rate of 0 or more."))
        'lr=-1.0 is below 0. Pass a learning rate of 0 or more.'
    """

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__(" ".join(part for part in (what, why, fix) if part))


class HyperError(KudariError, ValueError):
    """A hyper-parameter is outside its range."""


class UnsupportedError(KudariError, RuntimeError):
    """Something this part cannot do, named together with what can do it."""


class CompileError(KudariError, RuntimeError):
    """A rule cannot be turned into a program or a kernel."""


class RuleError(KudariError, ValueError):
    """A rule (an optimizer's formula) is not well formed."""


class DataError(KudariError, ValueError):
    """Data that cannot be trained on as they are."""


class CheckpointError(KudariError, RuntimeError):
    """A checkpoint that is missing, torn or belongs to something else."""


class ArgumentError(KudariError, ValueError):
    """An argument of a public function is not usable."""


class MissingExtraError(KudariError, ImportError):
    """An optional dependency is needed and not installed."""

    def __init__(self, package: str, needed_for: str, extra: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package!r}, which is not installed.",
            fix=f'Install it with: pip install "kudari[{extra}]"',
        )


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration.

    Attributes:
        key: dotted path, such as ``model.width``.
        message: what is wrong and what is allowed, one sentence or two.
        place: ``file:line`` or ``command line``.
    """

    key: str
    message: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.key}: {self.message}"


class ConfigError(KudariError, ValueError):
    """A configuration with one or more problems; all are reported at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} problem{'s' if count != 1 else ''} in the configuration:"
        super().__init__("\n  ".join([head, *map(str, self.problems)]))


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest choice, or an empty string.

    Example:
        >>> did_you_mean("adamww", ["adam", "adamw", "lion"])
        " Did you mean 'adamw'?"
    """
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
