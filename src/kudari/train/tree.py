"""Nested state, such as an optimizer's, as plain JSON plus named tensors; nothing is ever unpickled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kudari.errors import CheckpointError

Json = Any
_PLAIN = (bool, int, str, type(None))


def flatten(value: Any, tensors: dict[str, Tensor], key: str) -> Json:
    """Return ``value`` as JSON, its tensors put into ``tensors`` under names that begin with ``key``.

    Dicts (any plain keys), lists, tuples, numbers, text, None, dtypes and tensors come back from
    :func:`unflatten` as they were, floats bit for bit.

    Raises:
        CheckpointError: where something else is met, with its place.

    Example:
        >>> tensors = {}
        >>> tree = flatten({0: (torch.zeros(2), 0.5)}, tensors, "state")
        >>> list(tensors), unflatten(tree, tensors)
        (['state.0.0'], {0: (tensor([0., 0.]), 0.5)})
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Tensor):
        tensors[key] = value.detach()
        return {"tensor": key}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, tuple):
        return {"tuple": [flatten(v, tensors, f"{key}.{i}") for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [flatten(v, tensors, f"{key}.{i}") for i, v in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(k, _PLAIN) for k in value):
        return {"dict": [[k, flatten(v, tensors, f"{key}.{k}")] for k, v in value.items()]}
    raise CheckpointError(
        f"{key} is a {type(value).__name__}, which a checkpoint cannot hold.",
        why="Checkpoints are tensors and JSON, so that opening one never runs code.",
        fix="Keep numbers, text, lists, dicts and tensors in the state.",
    )


def unflatten(tree: Json, tensors: Mapping[str, Tensor]) -> Any:
    """Return what :func:`flatten` was given."""
    if isinstance(tree, list):
        return [unflatten(v, tensors) for v in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "float":
        return float(content)
    if kind == "tensor":
        return tensors[content]
    if kind == "dtype":
        return getattr(torch, content)
    if kind == "tuple":
        return tuple(unflatten(v, tensors) for v in content)
    return {k: unflatten(v, tensors) for k, v in content}
