"""The list of illnesses, discovered from the files under ``doctor/findings/``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from kudari.doctor import findings
from kudari.doctor.finding import Illness
from kudari.errors import ArgumentError, did_you_mean


@cache
def illnesses() -> dict[str, Illness]:
    """Every illness by slug, in alphabetical order. Loads no torch."""
    found: dict[str, Illness] = {}
    for info in sorted(pkgutil.iter_modules(findings.__path__), key=lambda module: module.name):
        if not info.name.startswith("_"):
            illness: Illness = importlib.import_module(f"{findings.__name__}.{info.name}").ILLNESS
            found[illness.slug] = illness
    return found


def illness(slug: str) -> Illness:
    """One illness by its slug.

    Raises:
        ArgumentError: no illness has this slug.

    Example:
        >>> illness("missing-zero-grad").severity
        'error'
    """
    known = illnesses()
    if slug not in known:
        raise ArgumentError(
            f"{slug!r} is not a finding of the doctor.{did_you_mean(slug, known)}",
            fix="`kudari explain` without a name lists them all.",
        )
    return known[slug]
