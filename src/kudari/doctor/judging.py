"""What judges share: places, names and small statistics. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kudari.doctor.finding import Place
from kudari.doctor.places import place

if TYPE_CHECKING:
    from kudari.doctor.track.backwards import BackwardSite
    from kudari.doctor.track.calls import Root
    from kudari.doctor.track.losses import LossSite
    from kudari.doctor.track.optimizers import OptimizerRecord
    from kudari.doctor.track.run import RunFacts

__all__ = [
    "Curve",
    "constant_loss",
    "few",
    "has_teacher",
    "main_curve",
    "median",
    "names_of",
    "place",
    "roots_of",
    "slope",
    "stepped",
    "subjects_of",
    "where",
]


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


@dataclass(frozen=True)
class Curve:
    """The training loss of a run with one optimizer and one line that runs backward."""

    optimizer: OptimizerRecord
    backward: BackwardSite
    steps: Sequence[int]
    values: Sequence[float]


# One line makes nearly all backwards; below this the run has several players or stages.
MAIN_SHARE = 0.9


def main_curve(run: RunFacts, steps: int) -> Curve | None:
    """The loss curve where statistics of it mean something, None elsewhere.

    Several optimizers (players), closures, several backward lines and short runs give None.
    """
    records = stepped(run)
    if len(records) != 1 or records[0].closure or records[0].steps < steps or not run.backwards.sites:
        return None
    site = max(run.backwards.sites.values(), key=lambda s: s.count)
    if site.count < MAIN_SHARE * run.backwards.total or len(site.losses.values) < steps:
        return None
    return Curve(records[0], site, site.losses.steps, site.losses.values)


def has_teacher(run: RunFacts, curve: Curve) -> bool:
    """True where a model that no optimizer trains runs beside the steps: its outputs are moving targets."""
    return any(
        not root.trained_by and not root.training_calls and root.calls >= 0.5 * curve.optimizer.steps
        for root in run.roots.roots
    )


def main_loss(run: RunFacts, curve: Curve) -> LossSite | None:
    """The loss function whose value is what the curve's backward is given, None where it is not one call."""
    sites = [s for s in run.losses.sites.values() if s.grad_calls >= 0.5 * curve.backward.count]
    if len(sites) != 1 or sites[0].first_loss is None or sites[0].reduction != "mean":
        return None
    first = curve.values[0]
    return sites[0] if abs(sites[0].first_loss[1] - first) <= 1e-4 * (abs(first) + 1e-6) else None


def constant_loss(site: LossSite) -> float | None:
    """The loss of the best constant prediction: label entropy, or the variance of the targets."""
    if site.weighted or site.smoothing or site.soft_targets:
        return None
    if site.name == "cross_entropy" and site.batches:
        totals: dict[int, int] = {}
        for batch in site.batches:
            for label, count in batch.items():
                totals[label] = totals.get(label, 0) + count
        all_labels = sum(totals.values())
        return -sum(n / all_labels * math.log(n / all_labels) for n in totals.values())
    if site.name == "mse_loss" and site.target_count > 1:
        mean = site.target_sum / site.target_count
        return max(site.target_square / site.target_count - mean * mean, 0.0)
    return None
