"""Optional packages, imported when they are needed and asked for by name when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from kudari.errors import MissingExtraError

_PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn"}


def require(module: str, needed_for: str) -> Any:
    """Import and return an optional module.

    Args:
        module: dotted name, such as ``PIL.Image``.
        needed_for: the start of the error's sentence, such as "Reading pictures".

    Raises:
        MissingExtraError: where its package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.split(".")[0]
        raise MissingExtraError(_PACKAGES.get(top, top), needed_for, "train") from error
