"""What a model's outputs mean: classes, or values in their units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from kudari.errors import ArgumentError


@dataclass(frozen=True)
class Outputs:
    """The way from a model's outputs to answers.

    Attributes:
        task: ``classification`` (outputs are logits, one per class) or ``regression`` (standardised values).
        names: names of the targets; one for classification.
        classes: class names in the order of the outputs; empty for regression.
        mean, std: of each target over the training split, in its own units; empty for classification.
    """

    task: Literal["classification", "regression"]
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def features(self) -> int:
        """Number of outputs the model needs."""
        return len(self.classes) if self.task == "classification" else len(self.names)

    def to_units(self, values: Tensor) -> Tensor:
        """Turn standardised regression values, (N, K), into their own units, float64.

        Raises:
            ArgumentError: for classification, whose outputs have no units.
        """
        if self.task != "regression":
            raise ArgumentError("The outputs are logits of classes: they have no units.")
        values = values.detach().to("cpu", torch.float64)
        return values * torch.tensor(self.std) + torch.tensor(self.mean)

    def describe(self, outputs: Tensor) -> list[dict[str, Any]]:
        """Return one JSON-able answer for each row of a model's outputs.

        Args:
            outputs: (N, features): logits or standardised values, as the model gives them.

        Returns:
            For classification ``{"prediction": name, "confidence": p, "probabilities": {name: p, ...}}``, the
            most probable class first. For regression ``{"prediction": value}``, or a dict of values by target
            name where there are several.

        Raises:
            ArgumentError: where the shape is not (N, features).

        Example:
            >>> Outputs("classification", ("kind",), ("cat", "dog")).describe(torch.tensor([[0.0, 0.0]]))
            [{'prediction': 'cat', 'confidence': 0.5, 'probabilities': {'cat': 0.5, 'dog': 0.5}}]
        """
        if outputs.ndim != 2 or outputs.shape[1] != self.features:
            raise ArgumentError(
                f"Outputs of shape {tuple(outputs.shape)} are not (N, {self.features}).",
                fix="Use the model that was trained together with this pipeline.",
            )
        if self.task == "regression":
            return [self._values(row) for row in self.to_units(outputs).tolist()]
        rows = outputs.detach().to("cpu", torch.float64).softmax(1).tolist()
        return [self._probabilities(row) for row in rows]

    def _values(self, row: list[float]) -> dict[str, Any]:
        if len(row) == 1:
            return {"prediction": row[0]}
        return {"prediction": dict(zip(self.names, row, strict=True))}

    def _probabilities(self, row: list[float]) -> dict[str, Any]:
        ranked = sorted(zip(self.classes, row, strict=True), key=lambda pair: -pair[1])
        return {"prediction": ranked[0][0], "confidence": ranked[0][1], "probabilities": dict(ranked)}

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Outputs:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            task=raw["task"],
            names=tuple(raw["names"]),
            classes=tuple(raw["classes"]),
            mean=tuple(raw["mean"]),
            std=tuple(raw["std"]),
        )
