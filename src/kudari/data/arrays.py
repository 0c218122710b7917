"""NumPy files to tensors."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kudari.data.extras import require
from kudari.data.words import some
from kudari.errors import DataError

INPUT_NAMES = ("X", "x", "inputs", "data")
"""Names under which an .npz may hold the inputs."""


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an .npz, or the one array of an .npy (named ``X``), never unpickling.

    Raises:
        DataError: where the file is missing, is something else, or holds Python objects.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.", fix="Check the path.")
    try:
        with path.open("rb") as file:
            if not file.peek(6).startswith((b"PK", b"\x93NUMPY")):
                raise DataError(f"{path} is no NumPy file.", fix="Write it with numpy.savez.")
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"X": loaded}
            return {name: loaded[name] for name in loaded.files}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path} holds Python objects.",
                "Reading them could run any code, so it is not done.",
                "Save plain arrays of numbers or text: astype(float), astype(str).",
            ) from error
        raise DataError(
            f"{path} cannot be read as NumPy arrays: {str(error).splitlines()[0]}",
            fix="Write it again with numpy.savez.",
        ) from error


def pick(arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> str | None:
    """Return the first of the names that is there."""
    return next((name for name in names if name in arrays), None)


def to_samples(values: NDArray[Any], what: str) -> NDArray[Any]:
    """Return inputs as (N, ...) with pictures as (N, channels, height, width).

    (N,) becomes (N, 1). Four dimensions with 1, 3 or 4 channels last are put channels first; unsigned
    bytes of three dimensions are grey pictures.

    Raises:
        DataError: for anything but real numbers.
    """
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{what} holds {values.dtype}, and numbers are needed.",
            fix="Convert it to float32 before saving.",
        )
    if values.ndim == 0:
        raise DataError(f"{what} is a single number.", fix="Its first dimension must count the samples.")
    if values.ndim == 1:
        return values[:, None]
    if values.ndim == 3 and values.dtype == np.uint8:
        return values[:, None]
    if values.ndim == 4 and values.shape[3] in (1, 3, 4) and values.shape[1] not in (1, 3, 4):
        return values.transpose(0, 3, 1, 2)
    return values


def not_finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Say for every row whether it holds a NaN or an infinity."""
    if values.dtype.kind != "f":
        return np.zeros(len(values), dtype=bool)
    finite: NDArray[np.bool_] = np.isfinite(values.reshape(len(values), -1)).all(1)
    return ~finite


def refuse_not_finite(values: NDArray[Any], what: str, fix: str) -> None:
    """Raise where any value is NaN or infinite.

    Raises:
        DataError: with counts and the first rows.
    """
    bad = not_finite(values)
    if not bad.any():
        return
    nans, infinities = int(np.isnan(values).sum()), int(np.isinf(values).sum())
    rows = np.flatnonzero(bad).tolist()
    raise DataError(
        f"{what} has {nans:,} NaN and {infinities:,} infinite values in {len(rows):,} of {len(values):,} "
        f"rows: row {some(rows)}, counted from 0.",
        "One of them turns the loss, and then every weight, into NaN.",
        fix,
    )


@dataclass(frozen=True)
class ArrayInputs:
    """Arrays of numbers as standardised tensors.

    Attributes:
        shape: of one sample.
        mean, std: over the training split: of each feature for flat samples, of each channel for pictures
            (channels, height, width), else one of each for all.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def kind(self) -> str:
        return "array"

    @classmethod
    def fit(cls, train: NDArray[Any]) -> ArrayInputs:
        """Take the statistics of training samples (N, ...)."""
        axes = (0,) if train.ndim == 2 else (0, 2, 3) if train.ndim == 4 else tuple(range(train.ndim))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.atleast_1d(train.mean(axes, dtype=np.float64))
            std = np.atleast_1d(train.std(axes, dtype=np.float64))
        if not np.isfinite(mean).all() or not np.isfinite(std).all():
            raise DataError(
                f"X holds numbers up to {np.abs(train).max():.1e}, too large to average.", fix="Rescale it."
            )
        std = np.where(std > 1e-12 * np.abs(mean), std, 1.0)
        return cls(train.shape[1:], tuple(mean.tolist()), tuple(std.tolist()))

    def _statistics(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        tail = (1, 1) if len(self.shape) == 3 else ()
        mean, std = np.array(self.mean).reshape(-1, *tail), np.array(self.std).reshape(-1, *tail)
        return mean, std

    def standardise(self, samples: NDArray[Any]) -> Tensor:
        """Return samples (N, *shape) as model inputs, float32."""
        mean, std = self._statistics()
        scaled = np.empty(samples.shape, dtype=np.float32)
        for first in range(0, len(samples), 1024):  # float64 only for a part at a time
            part = slice(first, first + 1024)
            scaled[part] = (samples[part] - mean) / std
        return torch.from_numpy(scaled)

    def encode(self, source: str | Path | Sequence[str | Path]) -> tuple[list[str], Tensor]:
        """Read .npz files (their X) or .npy files; names are ``row 0`` and so on.

        Raises:
            DataError: for unreadable files, other shapes than in training, and values that are not finite.
        """
        paths = [Path(source)] if isinstance(source, str | Path) else [Path(item) for item in source]
        if not paths:
            raise DataError("No file was given.")
        names: list[str] = []
        parts = []
        for path in paths:
            arrays = read_npz(path)
            key = pick(arrays, INPUT_NAMES)
            if key is None:
                raise DataError(
                    f"{path} has no X: it holds {some(list(arrays))}.", fix="Save the inputs as X."
                )
            samples = to_samples(arrays[key], f"X of {path}")
            if samples.shape[1:] != self.shape:
                raise DataError(
                    f"Samples of {path} have shape {samples.shape[1:]}; training had {self.shape}.",
                    fix="Give samples of the same shape, with a first dimension that counts them.",
                )
            refuse_not_finite(samples, f"X of {path}", "Replace or remove these rows.")
            parts.append(self.standardise(samples))
            prefix = f"{path.name} " if len(paths) > 1 else ""
            names += [f"{prefix}row {row}" for row in range(len(samples))]
        return names, torch.cat(parts)

    def decode_picture(self, sample: Tensor) -> bytes | None:
        """Return one encoded sample as PNG bytes where it is a picture of 1 or 3 channels, else None."""
        if len(self.shape) != 3 or self.shape[0] not in (1, 3):
            return None
        Image = require("PIL.Image", "Writing pictures")
        mean, std = self._statistics()
        values = sample.detach().cpu().numpy() * std + mean
        low = min(0.0, float(values.min()))
        high = float(values.max())
        top = 255.0 if 1 < high <= 255 else 1.0 if high <= 1 else high
        pixels = ((values - low) * (255 / max(top - low, 1e-12))).round().clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(buffer, "PNG")
        return buffer.getvalue()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ArrayInputs:
        """Read what :meth:`to_dict` wrote."""
        return cls(tuple(raw["shape"]), tuple(raw["mean"]), tuple(raw["std"]))
