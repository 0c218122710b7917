"""Data ready to train on: tensors, and everything known about where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kudari.data.pipeline import Pipeline
from kudari.errors import DataError

Kind = Literal["image", "table", "array"]
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class TensorData:
    """Samples held in memory, one per row.

    Attributes:
        inputs: shape (N, ...), float32, or int64 where they are ids.
        targets: shape (N,) int64 class numbers, or (N, K) float32 values.

    Raises:
        DataError: where the two disagree about N.

    Example:
        >>> len(TensorData(torch.zeros(3, 2), torch.tensor([0, 1, 0])))
        3
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if self.inputs.ndim == 0 or self.targets.ndim == 0:
            raise DataError(
                f"inputs have shape {tuple(self.inputs.shape)} and targets {tuple(self.targets.shape)}.",
                fix="Give both a first dimension that counts samples.",
            )
        if len(self.inputs) != len(self.targets):
            raise DataError(
                f"There are {len(self.inputs):,} inputs and {len(self.targets):,} targets.",
                fix="Give one target for every input, in the same order.",
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str) -> TensorData:
        """Return the same samples on a device; no copy where they are there already."""
        return TensorData(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Bundle:
    """A data set split for training, with the way back to files, units and names.

    Attributes:
        name: short name for folders, such as ``digits``.
        title: one line for people.
        task: ``classification`` or ``regression``.
        train, valid: encoded samples. Regression targets are standardised; ``pipeline.to_units`` undoes it.
        classes: class names in the order of the model's outputs; empty for regression.
        target: name of what is predicted.
        kind: what the raw inputs are.
        said: sentences about what was found and decided, to be printed and put into the report.
        pipeline: how raw inputs become model inputs, and outputs become answers.
        valid_names: file name or row of every validation sample.
    """

    name: str
    title: str
    task: Task
    train: TensorData
    valid: TensorData
    classes: tuple[str, ...]
    target: str
    kind: Kind
    said: tuple[str, ...]
    pipeline: Pipeline
    valid_names: tuple[str, ...]
