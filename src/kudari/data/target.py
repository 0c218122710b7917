"""Reading a target: classes or values, inferred from what is there and said aloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kudari.data.bundle import Task
from kudari.data.outputs import Outputs
from kudari.data.split import Rows
from kudari.data.words import count, some
from kudari.errors import ArgumentError, DataError, did_you_mean

FEW_VALUES = 20
"""Whole numbers with at most this many different values, each twice on average, are taken for classes."""

IMBALANCE = 10
"""From this ratio of the largest to the smallest class on, the imbalance is said aloud."""


@dataclass(frozen=True)
class Target:
    """What is to be predicted, for all samples.

    Attributes:
        values: class numbers (N,) int64, or values (N, K) float64 in their own units.
        names: names of the targets.
        classes: class names; empty for regression.
        said: what was inferred.
    """

    task: Task
    values: NDArray[Any]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    said: tuple[str, ...]

    @property
    def groups(self) -> Rows:
        """Groups of a stratified split: the classes, or one group of all."""
        if self.task == "classification":
            return self.values
        return np.zeros(len(self.values), dtype=np.int64)

    def fit(self, train: Rows) -> Outputs:
        """Return what the outputs will mean, with statistics of the training rows only.

        Raises:
            DataError: where a value to predict is the same in all of them.
        """
        if self.task == "classification":
            return Outputs("classification", self.names, self.classes)
        mean, std = self.values[train].mean(0), self.values[train].std(0)
        for name, centre, spread in zip(self.names, mean, std, strict=True):
            if not np.isfinite(spread) or spread <= 1e-12 * abs(centre):
                raise DataError(
                    f"The target {name!r} is {centre:g} in every training sample."
                    if np.isfinite(spread)
                    else f"The target {name!r} holds numbers too large to average.",
                    fix="Choose another target with target=NAME, or check the data.",
                )
        return Outputs("regression", self.names, (), tuple(mean.tolist()), tuple(std.tolist()))

    def encode(self, outputs: Outputs, rows: Rows) -> Tensor:
        """Return the targets of some rows as the loss wants them: (N,) int64 or (N, K) float32."""
        values = self.values[rows]
        if self.task == "classification":
            return torch.from_numpy(values)
        scaled = (values - np.array(outputs.mean)) / np.array(outputs.std)
        return torch.from_numpy(scaled.astype(np.float32))


def read_target(values: NDArray[Any], names: Sequence[str], task: str | None) -> Target:
    """Decide between classification and regression, and number the classes.

    Text and truth values are classes. Whole numbers are classes where at most 20 different ones occur, each
    twice on average, or where they count from 0 without a gap and each occurs 10 times on average. All else
    is regression.

    Args:
        values: (N,) or (N, K), nothing missing; numbers, truth values or text.
        names: of the targets.
        task: ``classification`` or ``regression`` where the user has decided, else None.

    Raises:
        ArgumentError: where ``task`` is neither.
        DataError: where the values do not fit the task, or there are fewer than two classes.

    Example:
        >>> read_target(np.array(["cat", "dog", "cat"]), ["kind"], None).classes
        ('cat', 'dog')
    """
    if task not in (None, "classification", "regression"):
        raise ArgumentError(
            f"task={task!r} is not known.{did_you_mean(task, ['classification', 'regression'])}",
            fix="Allowed: classification, regression, or leave it out.",
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and task != "regression" and _is_one_hot(values):
        said = f"The {values.shape[1]} columns of the target are one-hot: classes 0 to {values.shape[1] - 1}."
        return _classification(values.argmax(1), names, (said,))
    if values.ndim > 1:
        return _regression(values, names, task, f"{count(values.shape[1], 'value')} to predict: regression.")
    inferred, reason = _infer(values, names[0])
    if task is not None and task != inferred:
        inferred, reason = task, f"Target {names[0]!r}: {task}, as asked."
    if inferred == "classification":
        return _classification(values, names, (reason,))
    return _regression(values, names, task, reason)


def _infer(values: NDArray[Any], name: str) -> tuple[str, str]:
    if values.dtype.kind not in "iuf":
        return "classification", f"Target {name!r} holds names: classification."
    distinct = np.unique(values)
    whole = bool(np.all(distinct == np.floor(distinct)))
    counting = whole and bool(np.array_equal(distinct, np.arange(len(distinct))))
    if whole and len(distinct) <= FEW_VALUES and 2 * len(distinct) <= len(values):
        what = f"whole numbers with {count(len(distinct), 'different value')}"
    elif counting and len(values) >= 10 * len(distinct):
        what = f"every whole number from 0 to {len(distinct) - 1}"
    else:
        what = f"{'whole' if whole else 'fractional'} numbers with {count(len(distinct), 'different value')}"
        return "regression", f"Target {name!r} holds {what}: regression."
    return "classification", f"Target {name!r} holds {what}: classification (task=regression changes that)."


def _is_one_hot(values: NDArray[Any]) -> bool:
    if values.dtype.kind not in "biuf":
        return False
    return bool(np.all((values == 0) | (values == 1)) and np.all(values.sum(1) == 1))


def _regression(values: NDArray[Any], names: Sequence[str], task: str | None, reason: str) -> Target:
    if values.ndim > 2:
        raise DataError(
            f"The target has shape {values.shape}: (N,) or (N, K) is needed.", fix="Flatten it to (N, K)."
        )
    if task == "classification":
        raise DataError(
            f"The target has shape {values.shape} and is not one-hot: these are no classes.",
            fix="Give class numbers or names of shape (N,), or use task=regression.",
        )
    try:
        numbers = values.astype(np.float64).reshape(len(values), -1)
    except (TypeError, ValueError):
        bad = next(str(v) for v in values.ravel() if not _is_number(v))
        raise DataError(
            f"The target {names[0]!r} holds {bad!r}, which is not a number.",
            fix="Use task=classification, or correct the column.",
        ) from None
    if numbers.shape[1] != len(names):
        names = [f"{names[0]}_{index}" for index in range(numbers.shape[1])]
    return Target("regression", numbers, tuple(names), (), (reason,))


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def class_name(value: object) -> str:
    """Return the name of a class as files spell it: ``1.0`` and ``1`` are one class.

    Example:
        >>> class_name(1.0), class_name(" cat ")
        ('1', 'cat')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _classification(values: NDArray[Any], names: Sequence[str], said: tuple[str, ...]) -> Target:
    distinct, codes = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)
    labels = [class_name(value) for value in distinct.tolist()]
    classes = list(dict.fromkeys(labels))
    merged = np.array([classes.index(label) for label in labels], dtype=np.int64)
    return named_classes(merged[codes.reshape(-1)], names, classes, said)


def named_classes(
    codes: Rows, names: Sequence[str], classes: Sequence[str], said: tuple[str, ...] = ()
) -> Target:
    """Return a classification target from class numbers, with what is worth saying about its balance.

    Args:
        codes: class numbers (N,), int64.
        names: of the target.
        classes: class names.
        said: what was said before.

    Raises:
        DataError: for fewer than two classes, or classes that are nearly as many as samples.
    """
    sizes = np.bincount(codes, minlength=len(classes))
    if len(classes) < 2:
        raise DataError(
            f"There is only one class, {classes[0]!r}, in {count(len(codes), 'sample')}.",
            "A classifier needs at least two classes to tell apart.",
            "Check the target, or add samples of another class.",
        )
    if len(classes) > FEW_VALUES and 2 * len(classes) > len(codes):
        raise DataError(
            f"The target {names[0]!r} has {len(classes):,} different values for {len(codes):,} samples.",
            "Classes are learned from several samples each; this looks like numbers, names or text.",
            "Use task=regression for numbers, or choose another target with target=NAME.",
        )
    remarks = [*said, f"{len(classes)} classes: {some(classes, limit=10)}."]
    single = [name for name, size in zip(classes, sizes, strict=True) if size == 1]
    if single:
        subject = count(len(single), "class has", "classes have")
        remarks.append(f"{subject} a single sample and is trained on but never validated: {some(single)}.")
    if sizes.max() >= IMBALANCE * sizes.min():
        large, small = int(sizes.argmax()), int(sizes.argmin())
        share = 100 * sizes[large] / len(codes)
        remarks.append(
            f"Imbalanced: {sizes[large]:,} of {classes[large]!r}, {sizes[small]:,} of {classes[small]!r}; "
            f"always answering {classes[large]!r} would be right {share:.0f} % of the time."
        )
    return Target("classification", codes, tuple(names), tuple(classes), tuple(remarks))
