"""The model on a whole validation set: numbers while training, and the full picture at the end."""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kudari.record import Evaluation, Mistake
from kudari.train.feeds import Batch
from kudari.train.losses import Loss
from kudari.train.metrics import Metric

LARGEST_CONFUSION = 100
"""Classes up to which a confusion matrix is drawn."""
RESIDUALS = 2000
MISTAKES = 24

Units = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Examined:
    """How outputs are compared with targets.

    Attributes:
        loss: gives the loss of single samples.
        classes: names, empty where unknown.
        names: of the validation samples, empty for their numbers.
        picture: ``picture(index)``, PNG bytes of a validation sample or None.
        units: turns standardised values (N, K) into their own units, None where they are.
    """

    loss: Loss
    classes: Sequence[str] = ()
    names: Sequence[str] = ()
    picture: Callable[[int], bytes | None] | None = None
    units: Units | None = None


def evaluate(
    model: nn.Module,
    metrics: Sequence[Metric],
    batches: Iterable[Batch],
    *,
    precision: Callable[[], AbstractContextManager[object]],
    stopped: Callable[[], bool] = lambda: False,
    units: Units | None = None,
) -> dict[str, float] | None:
    """Return every metric over a set, or None where ``stopped()`` became true on the way.

    The model is in eval mode meanwhile and back in its mode afterwards. Sums stay on the device; one read at
    the end.

    Args:
        model: on the device of the batches.
        metrics: see :class:`kudari.train.metrics.Metric`.
        batches: pairs (inputs, targets).
        precision: makes the context of each forward pass.
        stopped: asked before every batch.
        units: applied to outputs and targets for metrics in units.
    """
    totals: list[Tensor] | None = None
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for x, y in batches:
                if stopped():
                    return None
                with precision():
                    outputs = model(x)
                    sums = metric_sums(metrics, outputs, y, units)
                totals = sums if totals is None else [a + b for a, b in zip(totals, sums, strict=True)]
    finally:
        model.train(was_training)
    return finish(metrics, totals or [])


def metric_sums(
    metrics: Sequence[Metric], outputs: Tensor, targets: Tensor, units: Units | None
) -> list[Tensor]:
    """Return the sums of each metric for one batch, on its device."""
    pair = (outputs, targets)
    in_units = (units(outputs), units(targets)) if units and any(m.in_units for m in metrics) else pair
    return [metric.sums(*(in_units if metric.in_units else pair)) for metric in metrics]


def finish(metrics: Sequence[Metric], sums: Sequence[Tensor]) -> dict[str, float]:
    """Read the sums, in one transfer, and return the value of each metric."""
    if not sums:
        return {}
    parts: Sequence[Tensor] = sums
    if any(s.device.type != "cpu" for s in sums):
        flat = torch.cat(
            [s.reshape(-1).to(torch.float32 if s.device.type == "mps" else torch.float64) for s in sums]
        )
        found = torch.split(flat.cpu(), [s.numel() for s in sums])
        parts = [part.reshape(s.shape) for part, s in zip(found, sums, strict=True)]
    return {m.name: m.finish(part.double()) for m, part in zip(metrics, parts, strict=True)}


@dataclass
class _Found:
    count: int = 0
    confusion: Tensor | None = None
    residuals: list[tuple[float, float]] = field(default_factory=list)
    worst: list[tuple[float, int, str, str, float | None]] = field(default_factory=list)


def examine(
    model: nn.Module,
    batches: Iterable[Batch],
    how: Examined,
    *,
    precision: Callable[[], AbstractContextManager[object]],
    stopped: Callable[[], bool] = lambda: False,
) -> Evaluation | None:
    """Return the confusion matrix or residuals and the worst mistakes; None for outputs that are neither, or
    if stopped.

    Args:
        model: the final one.
        batches: the validation set, in its order.
        how: see :class:`Examined`.
        precision, stopped: as for :func:`evaluate`.
    """
    found = _Found()
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for x, y in batches:
                if stopped():
                    return None
                with precision():
                    outputs = model(x)
                outputs = outputs.float()
                if not isinstance(outputs, Tensor) or how.loss.kind == "own" or not _fits(how, outputs, y):
                    return None
                (_note_classes if how.loss.kind == "classes" else _note_values)(found, how, outputs, y)
                found.count += len(y)
    finally:
        model.train(was_training)
    return _summary(found, how)


def _fits(how: Examined, outputs: Tensor, targets: Tensor) -> bool:
    """One class, or one value, for every sample."""
    if how.loss.kind == "classes":
        return outputs.ndim == 2 and targets.ndim == 1
    return outputs.numel() == len(outputs)


def _note_classes(found: _Found, how: Examined, outputs: Tensor, targets: Tensor) -> None:
    kept = (targets >= 0).nonzero().squeeze(1)  # others are ignored by the loss
    rows, outputs, targets = kept + found.count, outputs[kept], targets[kept]
    classes = outputs.shape[1]
    confidence, predicted = outputs.softmax(1).max(1)
    if classes <= LARGEST_CONFUSION:
        cells = torch.bincount(targets * classes + predicted, minlength=classes * classes).cpu()
        found.confusion = cells if found.confusion is None else found.confusion + cells
    wrong = (predicted != targets).nonzero().squeeze(1)
    if how.loss.each is not None:
        losses = how.loss.each(outputs[wrong], targets[wrong])
    else:
        losses = nn.functional.cross_entropy(outputs[wrong], targets[wrong], reduction="none")
    columns = (losses, rows[wrong], targets[wrong], predicted[wrong], confidence[wrong])
    for loss, row, truth, guess, sure in zip(*(c.tolist() for c in columns), strict=True):
        _keep_worst(found, (loss, row, _class_name(how, truth), _class_name(how, guess), sure))


def _note_values(found: _Found, how: Examined, outputs: Tensor, targets: Tensor) -> None:
    assert how.loss.each is not None
    losses = how.loss.each(outputs, targets).reshape(len(targets), -1).mean(1).tolist()
    convert = how.units or (lambda values: values)
    truths = convert(targets.reshape(len(targets), -1).float()).reshape(-1).tolist()
    guesses = convert(outputs.reshape(len(outputs), -1)).reshape(-1).tolist()
    for i, (loss, truth, guess) in enumerate(zip(losses, truths, guesses, strict=True)):
        found.residuals.append((truth, guess))
        _keep_worst(found, (loss, found.count + i, f"{truth:.6g}", f"{guess:.6g}", None))


def _keep_worst(found: _Found, mistake: tuple[float, int, str, str, float | None]) -> None:
    heapq.heappush(found.worst, mistake)
    if len(found.worst) > MISTAKES:
        heapq.heappop(found.worst)


def _class_name(how: Examined, number: int) -> str:
    return how.classes[number] if number < len(how.classes) else str(number)


def _summary(found: _Found, how: Examined) -> Evaluation:
    stride = -(-len(found.residuals) // RESIDUALS) or 1
    confusion: tuple[tuple[int, ...], ...] = ()
    names: tuple[str, ...] = ()
    if found.confusion is not None:
        size = round(len(found.confusion) ** 0.5)
        confusion = tuple(tuple(row) for row in found.confusion.reshape(size, size).tolist())
        names = tuple(_class_name(how, i) for i in range(size))
    mistakes = tuple(
        Mistake(
            index=how.names[row] if row < len(how.names) else str(row),
            truth=truth,
            predicted=guess,
            loss=loss,
            confidence=sure,
            picture=_picture(how, row),
        )
        for loss, row, truth, guess, sure in sorted(found.worst, key=lambda m: -m[0])
    )
    return Evaluation(names, confusion, tuple(found.residuals[::stride]), mistakes)


def _picture(how: Examined, row: int) -> str:
    png = how.picture(row) if how.picture is not None else None
    return base64.b64encode(png).decode() if png else ""
