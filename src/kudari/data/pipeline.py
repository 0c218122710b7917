"""The whole way of a sample: from a file to the model's inputs, and from its outputs to an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from kudari.data.arrays import ArrayInputs
from kudari.data.images import ImageInputs
from kudari.data.outputs import Outputs
from kudari.data.tables import TableInputs
from kudari.errors import DataError, did_you_mean

Source = str | Path | Sequence[str | Path]


class Inputs(Protocol):
    """How files become model inputs."""

    @property
    def kind(self) -> str:
        """``image``, ``table`` or ``array``."""
        ...

    def encode(self, source: Source) -> tuple[list[str], Tensor]:
        """Read files and return names and inputs (N, ...) float32."""
        ...

    def decode_picture(self, sample: Tensor) -> bytes | None:
        """Return one sample as PNG bytes, None where it is no picture."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        ...


_READERS: dict[str, Callable[[Mapping[str, Any]], Inputs]] = {
    "image": ImageInputs.from_dict,
    "table": TableInputs.from_dict,
    "array": ArrayInputs.from_dict,
}
_VERSION = 1


@dataclass(frozen=True)
class Pipeline:
    """How raw inputs become model inputs, and outputs become answers; written next to the model as JSON.

    All statistics in it (means, categories) come from the training split.

    Attributes:
        inputs: files to tensors.
        outputs: tensors to answers.
    """

    inputs: Inputs
    outputs: Outputs

    def encode(self, source: Source) -> tuple[list[str], Tensor]:
        """Read new files the way the training data were read.

        Args:
            source: for pictures a file, a folder or a list of files; for tables a CSV or Parquet file or
                several, with or without the target column; for arrays an .npz with X, or an .npy.

        Returns:
            A name for each sample, and the inputs (N, ...) float32.

        Raises:
            DataError: where something cannot be read or does not fit.
        """
        return self.inputs.encode(source)

    def decode_picture(self, sample: Tensor) -> bytes | None:
        """Return one encoded sample as PNG bytes, None where the data are no pictures."""
        return self.inputs.decode_picture(sample)

    def describe_output(self, outputs: Tensor) -> list[dict[str, Any]]:
        """Return one answer for each row of model outputs; see :meth:`Outputs.describe`."""
        return self.outputs.describe(outputs)

    def to_units(self, values: Tensor) -> Tensor:
        """Turn standardised regression targets or outputs, (N, K), into their own units, float64."""
        return self.outputs.to_units(values)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        inputs = {"kind": self.inputs.kind, **self.inputs.to_dict()}
        return {"version": _VERSION, "inputs": inputs, "outputs": self.outputs.to_dict()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Pipeline:
        """Read what :meth:`to_dict` wrote.

        Raises:
            DataError: where it was written by a newer version, or is something else.
        """
        if raw.get("version") != _VERSION:
            raise DataError(
                f"The pipeline has version {raw.get('version')!r}; this Kudari reads version {_VERSION}.",
                fix="Use the version of Kudari that trained the model.",
            )
        try:
            kind = raw["inputs"]["kind"]
            if kind not in _READERS:
                raise DataError(f"Inputs of kind {kind!r} are not known.{did_you_mean(str(kind), _READERS)}")
            return cls(_READERS[kind](raw["inputs"]), Outputs.from_dict(raw["outputs"]))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"The pipeline is incomplete: {error}.",
                fix="Restore the file from where the model was trained.",
            ) from error
