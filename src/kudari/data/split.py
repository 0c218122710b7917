"""Which samples train and which validate: a pure function of the targets and a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kudari.data.seeds import derive_seed
from kudari.errors import ArgumentError, DataError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers of the two parts, each in ascending order, and how they came about."""

    train: Rows
    valid: Rows
    said: str


def check_split_arguments(valid_fraction: float, seed: int) -> None:
    """Refuse numbers no split can be made with.

    Raises:
        ArgumentError: where ``valid_fraction`` is not inside (0, 1) or ``seed`` is below 0.
    """
    if not 0 < valid_fraction < 1:
        raise ArgumentError(
            f"valid_fraction={valid_fraction} is outside (0, 1).",
            "Without validation samples nobody can see whether the model has learned or memorised.",
            "Pass a fraction such as 0.2.",
        )
    if seed < 0:
        raise ArgumentError(f"seed={seed} is below 0.", fix="Pass 0 or more.")


def random_split(groups: Rows, valid_fraction: float, seed: int) -> Split:
    """Draw ``ceil(valid_fraction * N)`` validation rows, the same share from every group.

    A group with one sample keeps it for training; every other group keeps at least one.

    Args:
        groups: class number of each sample, (N,); all zeros for a split that is not stratified.
        valid_fraction: inside (0, 1).
        seed: 0 or more.

    Raises:
        DataError: where there are too few samples to leave some for both parts.
        ArgumentError: from :func:`check_split_arguments`.

    Example:
        >>> split = random_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25, seed=0)
        >>> len(split.train), len(split.valid)
        (6, 2)
    """
    check_split_arguments(valid_fraction, seed)
    sizes = np.bincount(groups)
    if int(np.maximum(sizes - 1, 0).sum()) < 1:
        number = f"{len(groups)} sample{'s' * (len(groups) != 1)}"
        why = ": no class has two" if len(groups) > 1 else ""
        raise DataError(
            f"{number} cannot be split into training and validation{why}.",
            "Both need different samples of a class.",
            "Add samples.",
        )
    quotas = _quotas(sizes, math.ceil(valid_fraction * len(groups)))
    generator = torch.Generator().manual_seed(derive_seed("split", seed))
    chosen = np.zeros(len(groups), dtype=bool)
    order = np.argsort(groups, kind="stable")
    for members, quota in zip(np.split(order, np.cumsum(sizes)[:-1]), quotas, strict=True):
        drawn = torch.randperm(len(members), generator=generator).numpy()[:quota]
        chosen[members[drawn]] = True
    how = "the same share of every class" if len(sizes) > 1 else "drawn at random"
    said = f"{100 * chosen.mean():.0f} % of the samples were set aside for validation ({how}, seed {seed})."
    return Split(np.flatnonzero(~chosen), np.flatnonzero(chosen), said)


def _quotas(sizes: Rows, total: int) -> Rows:
    """Share ``total`` among groups in proportion to their sizes, always leaving one sample of each."""
    most: Rows = np.maximum(sizes - 1, 0)
    ideal = sizes * (total / sizes.sum())
    quotas: Rows = np.minimum(np.floor(ideal).astype(np.int64), most)
    by_remainder = np.argsort(-(ideal - quotas), kind="stable")
    missing = min(total, int(most.sum())) - int(quotas.sum())
    while missing > 0:
        for group in by_remainder:
            if missing > 0 and quotas[group] < most[group]:
                quotas[group] += 1
                missing -= 1
    return quotas
