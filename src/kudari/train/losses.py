"""Losses by name, and what their mean is a mean over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kudari.errors import ArgumentError, did_you_mean

LossFunction = Callable[[Tensor, Tensor], Tensor]
TargetKind = Literal["classes", "values", "own"]
IGNORED_CLASS = -100
"""torch's ``ignore_index``: targets with this class take no part in a cross-entropy."""


@dataclass(frozen=True)
class Loss:
    """A loss and everything the loop has to know about it.

    Attributes:
        name: for the log and the report.
        compute: ``compute(outputs, targets)``, the mean as a scalar tensor.
        weight: ``weight(targets)``, how much the mean of these targets counts in a mean over several batches:
            a number, or a scalar tensor where it depends on the values (no host synchronisation).
        kind: what the targets have to be.
        each: ``each(outputs, targets)``, one loss for each sample, None where it is not known.
        ignored: class number of targets that take no part.
    """

    name: str
    compute: LossFunction
    weight: Callable[[Tensor], float | Tensor]
    kind: TargetKind = "own"
    each: LossFunction | None = None
    ignored: int = IGNORED_CLASS


def _samples(targets: Tensor) -> float:
    return float(targets.shape[0])


def _classes_counted(targets: Tensor) -> float | Tensor:
    return _samples(targets) if targets.is_floating_point() else (targets != IGNORED_CLASS).sum()


def _each_class(outputs: Tensor, targets: Tensor) -> Tensor:
    losses = F.cross_entropy(outputs, targets, reduction="none")
    return losses if losses.ndim == 1 else losses.flatten(1).mean(1)


def _each(function: Callable[..., Tensor]) -> LossFunction:
    def each(outputs: Tensor, targets: Tensor) -> Tensor:
        return function(outputs, targets, reduction="none").reshape(len(outputs), -1).mean(1)

    return each


def _values(name: str, function: Callable[..., Tensor]) -> Loss:
    return Loss(name, function, _samples, "values", _each(function))


def _of_torch(name: str) -> Callable[..., Tensor]:
    """A loss of torch, looked up at each call: the doctor replaces them while it watches."""

    def compute(outputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
        loss: Tensor = getattr(F, name)(outputs, targets, **options)
        return loss

    return compute


_LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(
        "cross_entropy", _of_torch("cross_entropy"), _classes_counted, "classes", _each_class
    ),
    "mse": _values("mse", _of_torch("mse_loss")),
    "l1": _values("l1", _of_torch("l1_loss")),
    "huber": _values("huber", _of_torch("huber_loss")),
    "bce": _values("bce", _of_torch("binary_cross_entropy_with_logits")),
}


def loss_names() -> tuple[str, ...]:
    """Return the names :func:`resolve_loss` knows."""
    return tuple(_LOSSES)


def infer_loss(targets: Tensor, task: str | None = None) -> tuple[str, str]:
    """Choose a loss from the task or the targets; returns its name and the reason.

    Args:
        targets: of one batch.
        task: ``classification``, ``regression``, or None to look at the targets.

    Example:
        >>> infer_loss(torch.tensor([0, 2, 1]))
        ('cross_entropy', 'the targets are whole numbers: classes')
    """
    if task == "classification":
        return "cross_entropy", "the task is classification"
    if task == "regression":
        return "mse", "the task is regression"
    if targets.is_floating_point():
        return "mse", "the targets are real numbers: values"
    return "cross_entropy", "the targets are whole numbers: classes"


def resolve_loss(spec: str | nn.Module | LossFunction) -> Loss:
    """Turn a name, a module or a function into a :class:`Loss`.

    Args:
        spec: one of :func:`loss_names`, or anything that maps (outputs, targets) to a scalar mean.

    Raises:
        ArgumentError: where the name is unknown, the object cannot be called, or it sums instead of
            averaging.

    Example:
        >>> resolve_loss("mse").compute(torch.zeros(2), torch.ones(2))
        tensor(1.)
    """
    if isinstance(spec, str):
        if spec not in _LOSSES:
            raise ArgumentError(
                f"loss={spec!r} is not known.{did_you_mean(spec, _LOSSES)}",
                fix=f"Choose one of {', '.join(_LOSSES)}, or pass a module or function.",
            )
        return _LOSSES[spec]
    if not callable(spec):
        raise ArgumentError(
            f"loss is a {type(spec).__name__}, which is no name, module or function.",
            fix=f"Choose one of {', '.join(_LOSSES)}, or pass callable(outputs, targets).",
        )
    reduction = getattr(spec, "reduction", "mean")
    name = type(spec).__name__ if isinstance(spec, nn.Module) else getattr(spec, "__name__", "own loss")
    if reduction != "mean":
        raise ArgumentError(
            f"loss={name} has reduction={reduction!r}.",
            why="A step, and an average over a set, would then depend on the batch size.",
            fix="Pass reduction='mean'.",
        )
    if isinstance(spec, nn.CrossEntropyLoss):
        return Loss(name, spec, _weight_of(spec), "classes", ignored=spec.ignore_index)
    return Loss(name, spec, _samples)


def _weight_of(loss: nn.CrossEntropyLoss) -> Callable[[Tensor], float | Tensor]:
    """torch averages over targets that are not ignored, each with its class weight."""

    def weight(targets: Tensor) -> float | Tensor:
        if targets.is_floating_point():
            return _samples(targets)
        kept = targets != loss.ignore_index
        if loss.weight is None:
            return kept.sum()
        return torch.where(kept, loss.weight[targets.clamp(0, len(loss.weight) - 1)], 0.0).sum()

    return weight
