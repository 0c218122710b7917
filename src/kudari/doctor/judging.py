"""What judges share: places, names and small statistics. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kudari.doctor.finding import Place
from kudari.doctor.places import place

if TYPE_CHECKING:
    from kudari.doctor.track.optimizers import OptimizerRecord
    from kudari.doctor.track.roots import Root
    from kudari.doctor.track.run import RunFacts

__all__ = ["few", "median", "names_of", "place", "slope", "stepped", "subjects_of", "where"]


def median(values: Iterable[float]) -> float:
    """The middle value; the upper one of two.

    Example:
        >>> median([3.0, 1.0, 2.0])
        2.0
    """
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def few(names: Sequence[str], limit: int = 3) -> str:
    """The first names of a list, and how many more.

    Example:
        >>> few(["a", "b", "c", "d"], 2)
        'a, b and 2 more'
    """
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def where(*sites: Any) -> Place | None:
    """The first of several sites that is known."""
    return next((place(site) for site in sites if site is not None), None)


def stepped(run: RunFacts, steps: int = 1) -> list[OptimizerRecord]:
    """Optimizers that took at least so many steps or scaler attempts."""
    return [r for r in run.optimizers.records if max(r.steps, r.attempts) >= steps]


def names_of(run: RunFacts, ids: Iterable[int]) -> list[str]:
    """Names of parameters by identity, such as ``encoder.weight``; unknown ones are left out."""
    found = []
    for i in ids:
        name = next((root.names[i][0] for root in run.roots.roots if i in root.names), None)
        if name is not None:
            found.append(name)
    return found


def roots_of(run: RunFacts, record: OptimizerRecord) -> list[Root]:
    """Models that an optimizer trains."""
    ids = set(record.ids)
    return [root for root in run.roots.roots if not ids.isdisjoint(root.names)]


def subjects_of(run: RunFacts, record: OptimizerRecord) -> frozenset[int]:
    """Identities of an optimizer and the models it trains, for suppression."""
    return frozenset([record.key, *(root.key for root in roots_of(run, record))])


def slope(values: Sequence[float]) -> float:
    """Least-squares change over the whole sequence, in units of the values.

    Example:
        >>> slope([0.0, 1.0, 2.0])
        2.0
    """
    n = len(values)
    centre = (n - 1) / 2
    spread = sum((i - centre) ** 2 for i in range(n))
    if spread == 0:
        return 0.0
    mean = sum(values) / n
    return sum((i - centre) * (v - mean) for i, v in enumerate(values)) / spread * (n - 1)
