"""Models from and to plain data: what a configuration says, what a report prints, what suits a data set."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from kudari.errors import ArgumentError, did_you_mean
from kudari.models.cnn import cnn, depth_for
from kudari.models.mlp import mlp

BUILDERS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn}

SMALL_PICTURE = 256
"""Pictures of at most this many numbers (16x16 grey) are given to an mlp."""


class Samples(Protocol):
    """Encoded samples, such as :class:`kudari.data.TensorData`."""

    @property
    def inputs(self) -> Tensor: ...

    @property
    def targets(self) -> Tensor: ...


class DataSet(Protocol):
    """What a model is chosen by, such as :class:`kudari.data.Bundle`."""

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def train(self) -> Samples: ...


def build(spec: Mapping[str, Any]) -> nn.Module:
    """Build a model from a JSON-able dict: ``name`` and the arguments of the function of that name.

    Raises:
        ArgumentError: for unknown names, unknown or missing arguments, and values out of range.

    Example:
        >>> build({"name": "mlp", "in_features": 64, "widths": [128], "out_features": 10}).describe()
        'mlp 64-128-10'
    """
    values = dict(spec)
    name = values.pop("name", None)
    if name not in BUILDERS:
        raise ArgumentError(
            f"Model {name!r} is not known.{did_you_mean(str(name), BUILDERS)}",
            fix=f"Allowed: {', '.join(BUILDERS)}.",
        )
    parameters = inspect.signature(BUILDERS[name]).parameters
    for key in values:
        if key not in parameters:
            raise ArgumentError(
                f"{name}: {key!r} is not an argument.{did_you_mean(key, parameters)}",
                fix=f"Allowed: {', '.join(parameters)}.",
            )
    needed = [key for key, p in parameters.items() if p.default is p.empty and key not in values]
    if needed:
        raise ArgumentError(f"{name}: {', '.join(needed)} missing.", fix="Add what is missing.")
    return BUILDERS[name](**values)


def describe(module: nn.Module) -> str:
    """Return one line about a model.

    Example:
        >>> describe(mlp(64, [128], 10))
        'mlp 64-128-10, 9,610 parameters'
        >>> describe(nn.Linear(3, 2))
        'Linear, 8 parameters'
    """
    own = getattr(module, "describe", None)
    name = own() if callable(own) else type(module).__name__
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return f"{name}, {parameters:,} parameters"


def default_spec(data: DataSet) -> dict[str, Any]:
    """Choose a model for a data set, as a dict for :func:`build`.

    An mlp for tables, flat arrays and pictures of up to 256 numbers; a cnn for larger pictures.

    Args:
        data: a bundle; its training inputs are (N, features), (N, channels, H, W), or else get flattened.

    Example:
        >>> from types import SimpleNamespace as Data
        >>> import torch
        >>> train = Data(inputs=torch.zeros(9, 1, 8, 8), targets=torch.arange(9))
        >>> default_spec(Data(classes="0123456789", train=train))
        {'name': 'mlp', 'in_features': 64, 'widths': [128], 'out_features': 10, 'dropout': 0.2}
    """
    shape = tuple(data.train.inputs.shape[1:])
    outputs = len(data.classes) or math.prod(data.train.targets.shape[1:])
    numbers = math.prod(shape)
    if len(shape) == 3 and numbers > SMALL_PICTURE:
        depth, downsample = depth_for(shape[1], shape[2])
        return {
            "name": "cnn",
            "in_channels": shape[0],
            "out_features": outputs,
            "width": 32,
            "depth": depth,
            "downsample": downsample,
        }
    widths = [128] if len(shape) == 3 else [128, 128]
    dropout = 0.2 if len(shape) == 3 else 0.1
    return {
        "name": "mlp",
        "in_features": numbers,
        "widths": widths,
        "out_features": outputs,
        "dropout": dropout,
    }
