"""Faults that can be seen on the first batch, refused before anything is trained or written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from kudari.data import TensorData
from kudari.errors import DataError
from kudari.train.feeds import Batch
from kudari.train.losses import IGNORED_CLASS, Loss
from kudari.train.threads import count_flops


def first_outputs(
    model: nn.Module, batch: Batch, precision: Callable[[], AbstractContextManager[object]]
) -> tuple[Tensor, int]:
    """Run the model once, in eval mode and without an update, on the first batch.

    Returns:
        Outputs, detached, and the counted floating-point operations of the forward pass.

    Raises:
        DataError: where the model does not accept the batch or gives something that is no tensor.
    """
    x, _ = batch
    outputs: Any = None

    def forward() -> None:
        nonlocal outputs
        with precision():
            outputs = model(x)

    was_training = model.training
    model.eval()  # batch norms must not learn from a pass that is no step
    try:
        flops = count_flops(forward)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        raise DataError(
            f"The model does not accept a batch of shape {tuple(x.shape)} and dtype {x.dtype}: {error}.",
            fix="Make the model's first layer fit the inputs, or the inputs fit the model.",
        ) from error
    finally:
        model.train(was_training)
    if not isinstance(outputs, Tensor):
        raise DataError(
            f"The model returns a {type(outputs).__name__}.",
            fix="Return one tensor, or wrap the model in a module that picks it.",
        )
    return outputs.detach(), flops


def check_loss(loss: Loss, outputs: Tensor, targets: Tensor, name: str = "train") -> None:
    """Refuse targets that do not fit the outputs and the loss.

    Raises:
        DataError: with the exact change that makes them fit.
    """
    if outputs.ndim == 0 or targets.ndim == 0 or len(outputs) != len(targets):
        raise DataError(
            f"The model's outputs are {tuple(outputs.shape)} for {name} targets {tuple(targets.shape)}.",
            fix="Return one row of outputs for each sample.",
        )
    if loss.kind == "classes":
        _check_classes(loss, outputs, targets, name)
    elif loss.kind == "values":
        _check_values(loss, outputs, targets, name)
    outputs = outputs.detach().requires_grad_(outputs.is_floating_point() or outputs.is_complex())
    value = loss.compute(outputs, targets)
    if not isinstance(value, Tensor):
        raise DataError(
            f"The loss {loss.name} gives a {type(value).__name__}, not a scalar tensor.",
            fix="Return the one tensor to minimise; where it has parts, their sum.",
        )
    if value.ndim != 0:
        raise DataError(
            f"The loss {loss.name} gives {tuple(value.shape)}, not a scalar.",
            fix="Return its mean: loss.mean().",
        )
    if outputs.requires_grad and not value.requires_grad:
        raise DataError(
            f"The loss {loss.name} has no gradient with respect to the model's outputs.",
            why="Nothing would be learned from it.",
            fix="Compute it with torch's operations, without detach, item, argmax or no_grad.",
        )


def _check_classes(loss: Loss, outputs: Tensor, targets: Tensor, name: str) -> None:
    if outputs.ndim < 2:
        raise DataError(
            f"{loss.name} needs outputs of shape (N, classes); the model gives {tuple(outputs.shape)}.",
            fix="Give the last layer one output for each class; for two classes as one number use 'bce'.",
        )
    if targets.shape == outputs.shape and targets.is_floating_point():
        return
    wanted = (outputs.shape[0], *outputs.shape[2:])
    if targets.is_floating_point():
        raise DataError(
            f"{loss.name} needs class numbers; {name} targets are {targets.dtype}.",
            fix="Pass y.long() if they are classes, or loss='mse' if they are values.",
        )
    if tuple(targets.shape) != wanted:
        squeeze = targets.ndim == 2 and targets.shape[1] == 1 and len(wanted) == 1
        raise DataError(
            f"{loss.name} needs targets of shape {wanted} for outputs {tuple(outputs.shape)}; "
            f"{name} targets have {tuple(targets.shape)}.",
            fix="Pass y.squeeze(1)."
            if squeeze
            else "Return outputs.movedim(-1, 1) from the model: classes come second."
            if targets.shape == outputs.shape[:-1]
            else "Outputs are (N, classes, ...), targets (N, ...).",
        )
    if targets.dtype not in (torch.int64, torch.uint8):
        raise DataError(
            f"{loss.name} needs int64 classes; {name} targets are {targets.dtype}.", fix="Pass y.long()."
        )
    check_range(targets, outputs.shape[1], name, loss.ignored)


def check_range(targets: Tensor, classes: int, name: str, ignored: int = IGNORED_CLASS) -> None:
    """Refuse class numbers the model has no output for.

    Raises:
        DataError: with the number and its place.
    """
    wrong = ((targets < 0) & (targets != ignored)) | (targets >= classes)
    if bool(wrong.any()):
        place = [int(i) for i in wrong.nonzero()[0]]
        value = int(targets[tuple(place)])
        raise DataError(
            f"{name} targets hold the class {value} (sample {place[0]}); the model has {classes} outputs: "
            f"0 to {classes - 1}.",
            fix=f"Give the model {value + 1} outputs or more, or number the classes from 0."
            if value >= 0
            else f"Number the classes from 0; only {ignored} stands for 'ignore'.",
        )


def _check_values(loss: Loss, outputs: Tensor, targets: Tensor, name: str) -> None:
    if outputs.shape != targets.shape:
        raise DataError(
            f"{loss.name} needs targets of the outputs' shape {tuple(outputs.shape)}; {name} targets have "
            f"{tuple(targets.shape)}.",
            why="torch would stretch one over the other and compare every output with every target.",
            fix=_reshape(outputs, targets),
        )
    if not targets.is_floating_point():
        raise DataError(
            f"{loss.name} needs real targets; {name} targets are {targets.dtype}.", fix="Pass y.float()."
        )
    if loss.name == "bce" and bool(((targets < 0) | (targets > 1)).any()):
        raise DataError(
            f"bce needs targets in [0, 1]; {name} has {float(targets.min()):g} to {float(targets.max()):g}.",
            fix="Pass 0 and 1 for no and yes, or loss='mse' for values.",
        )


def _reshape(outputs: Tensor, targets: Tensor) -> str:
    if tuple(outputs.shape) == (*targets.shape, 1):
        return "Pass y.unsqueeze(-1) as targets, or return outputs.squeeze(-1) from the model."
    if tuple(targets.shape) == (*outputs.shape, 1):
        return "Pass y.squeeze(-1) as targets."
    return "Let the model return one number for each target."


def check_all_targets(loss: Loss, data: TensorData | None, outputs: Tensor, name: str) -> None:
    """Refuse a class that only appears later in the set, where all of it is in memory.

    Raises:
        DataError: as :func:`check_range`.
    """
    if data is not None and loss.kind == "classes" and not data.targets.is_floating_point():
        check_range(data.targets, outputs.shape[1], name, loss.ignored)
