"""Packages that ``pip install "kudari[train]"`` brings."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from kudari.errors import MissingExtraError

TRAIN = (("yaml", "pyyaml"), ("pydantic", "pydantic"))


def need(packages: Sequence[tuple[str, str]], needed_for: str) -> None:
    """Refuse to begin without the packages.

    Args:
        packages: (name to import, name to install) pairs.
        needed_for: the start of the sentence, such as "kudari train".

    Raises:
        MissingExtraError: for the first one that is missing.
    """
    for module, package in packages:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, needed_for, "train")
