"""An .npz file with X and y."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kudari.data.arrays import (
    INPUT_NAMES,
    ArrayInputs,
    not_finite,
    pick,
    read_npz,
    refuse_not_finite,
    to_samples,
)
from kudari.data.assemble import assemble
from kudari.data.bundle import Bundle
from kudari.data.options import LoadOptions
from kudari.data.split import Split, random_split
from kudari.data.target import Target, read_target
from kudari.data.words import count, some
from kudari.errors import DataError, did_you_mean

_TARGET_NAMES = ("y", "Y", "targets", "target", "labels", "label")
_TRAIN_PAIRS = (("X_train", "y_train"), ("x_train", "y_train"))
_VALID_PAIRS = tuple((f"{x}_{part}", f"y_{part}") for part in ("valid", "val", "test") for x in "Xx")

Arrays = dict[str, NDArray[Any]]


def load_npz(path: Path, options: LoadOptions) -> Bundle:
    """Load X and y, or X_train, y_train and X_valid (or X_val, X_test), y_valid.

    Raises:
        DataError: where arrays are missing, disagree in length, or hold NaN or infinities.
    """
    arrays = read_npz(path)
    pair = next((pair for pair in _TRAIN_PAIRS if set(pair) <= set(arrays)), None)
    samples, values, valid_size, said = _given(arrays, pair) if pair else _whole(arrays, path, options)
    if options.on_bad == "skip" and not valid_size:
        samples, values, remarks = _skip(samples, values)
        said += remarks
    refuse_not_finite(samples, "X", "Replace them, or leave these rows out with on_bad=skip.")
    refuse_not_finite(values, "y", "Replace them, or leave these rows out with on_bad=skip.")
    target = read_target(values, ["y"], options.task)
    if valid_size:
        rows, first = np.arange(len(samples)), len(samples) - valid_size
        split = Split(rows[:first], rows[first:], "")
        _check_given(target, split)
    else:
        split = random_split(target.groups, options.valid_fraction, options.seed)
    inputs = ArrayInputs.fit(samples[split.train])
    return assemble(
        name=path.stem,
        noun="sample",
        kind="array",
        inputs=inputs,
        encode=lambda rows: inputs.standardise(samples[rows]),
        target=target,
        split=split,
        names=[f"row {row}" for row in range(len(samples))],
        said=said,
    )


def _whole(
    arrays: Arrays, path: Path, options: LoadOptions
) -> tuple[NDArray[Any], NDArray[Any], int, list[str]]:
    x = pick(arrays, INPUT_NAMES)
    y = pick(arrays, _TARGET_NAMES) if options.target is None else pick(arrays, [options.target])
    if x is None or y is None:
        wanted = "X" if x is None else options.target or "y"
        raise DataError(
            f"{path} has no array {wanted!r}: it holds {some(list(arrays), 20) or 'nothing'}."
            f"{did_you_mean(wanted, arrays)}",
            fix="Save it with numpy.savez(path, X=inputs, y=targets).",
        )
    _same_length(arrays, x, y)
    samples = to_samples(arrays[x], x)
    said = [
        f"Inputs are {x!r}, {' x '.join(map(str, samples.shape[1:]))} numbers a sample; targets are {y!r}."
    ]
    return samples, arrays[y], 0, said


def _given(arrays: Arrays, pair: tuple[str, str]) -> tuple[NDArray[Any], NDArray[Any], int, list[str]]:
    valid = next((other for other in _VALID_PAIRS if set(other) <= set(arrays)), None)
    _same_length(arrays, *pair)
    samples, values = to_samples(arrays[pair[0]], pair[0]), arrays[pair[1]]
    if valid is None:
        return samples, values, 0, [f"Training and validation samples come from {pair[0]!r}."]
    _same_length(arrays, *valid)
    more = to_samples(arrays[valid[0]], valid[0])
    if more.shape[1:] != samples.shape[1:]:
        raise DataError(
            f"{pair[0]} has samples of shape {samples.shape[1:]}, {valid[0]} of {more.shape[1:]}."
        )
    said = [f"Training samples are {pair[0]!r}, validation samples {valid[0]!r}."]
    return np.concatenate([samples, more]), np.concatenate([values, arrays[valid[1]]]), len(more), said


def _same_length(arrays: Arrays, x: str, y: str) -> None:
    if arrays[x].ndim and arrays[y].ndim and len(arrays[x]) == len(arrays[y]):
        if not len(arrays[x]):
            raise DataError(f"{x} and {y} are empty.")
        return
    raise DataError(
        f"{x} has shape {arrays[x].shape} and {y} has {arrays[y].shape}.",
        fix="Both need the same first dimension: one target for every sample.",
    )


def _skip(samples: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    bad = not_finite(samples) | not_finite(values)
    if not bad.any() or bad.all():
        return samples, values, []
    rows = np.flatnonzero(bad).tolist()
    said = f"{count(len(rows), 'row')} with NaN or infinities left out: {some(rows)}."
    return samples[~bad], values[~bad], [said]


def _check_given(target: Target, split: Split) -> None:
    if target.task != "classification":
        return
    unknown = np.setdiff1d(target.values[split.valid], target.values[split.train])
    if len(unknown):
        names = some([target.classes[code] for code in unknown])
        raise DataError(
            f"The validation samples have classes that training has not: {names}.",
            "What was never trained cannot be recognised.",
        )
