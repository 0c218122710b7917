"""Metrics: sums over samples that are added up on the device and finished once, on the host.

A metric over a set is not the mean of its values over batches: batches differ in size, and a root or a ratio
of means is not the mean of roots or ratios. So a metric is two functions, one that gives sums for a batch and
one that turns the added sums into the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kudari.errors import ArgumentError, did_you_mean
from kudari.train.losses import IGNORED_CLASS, Loss

MetricFunction = Callable[[Tensor, Tensor], Tensor | float]


@dataclass(frozen=True)
class Metric:
    """A number about outputs and targets.

    Attributes:
        name: key in the log.
        sums: ``sums(outputs, targets)``, a tensor on their device that may be added over batches.
        finish: turns the added sums, float64 on the CPU, into the value.
        better: which way is up; ``unknown`` for a user's own metric.
        in_units: outputs and targets are first turned into their own units where the data are standardised.
    """

    name: str
    sums: Callable[[Tensor, Tensor], Tensor]
    finish: Callable[[Tensor], float]
    better: Literal["higher", "lower", "unknown"] = "unknown"
    in_units: bool = False


def _ratio(sums: Tensor) -> float:
    top, count = sums.tolist()
    return float(top / count) if count else math.nan


def _wide(x: Tensor) -> Tensor:
    """Sums over a set need float64; MPS has none."""
    return x.float() if x.device.type == "mps" else x.double()


def _mean_of(values: Tensor) -> Tensor:
    total = _wide(values).sum()
    return torch.stack([total, torch.full_like(total, values.numel())])


def _hits(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():  # probabilities over the classes
        return _mean_of(outputs.argmax(1) == targets.argmax(1))
    # An ignored target, being negative, is never what argmax finds.
    return torch.stack([(outputs.argmax(1) == targets).sum(), (targets != IGNORED_CLASS).sum()])


def _binary_hits(logits: Tensor, targets: Tensor) -> Tensor:
    return _mean_of((logits > 0) == (targets > 0.5))


def _missed(hits: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        right, count = hits(outputs, targets)
        return torch.stack([count - right, count])

    return sums


def _top5(outputs: Tensor, targets: Tensor) -> Tensor:
    kept = targets != IGNORED_CLASS
    best = outputs.topk(min(5, outputs.shape[1]), dim=1).indices
    return torch.stack([((best == targets.unsqueeze(1)).any(1) & kept).sum(), kept.sum()])


def _absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return _mean_of((outputs - targets).abs())


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return _mean_of(_wide(outputs - targets).square())


def _moments(outputs: Tensor, targets: Tensor) -> Tensor:
    y = _wide(targets.reshape(len(targets), -1))
    error = (_wide(outputs.reshape(y.shape)) - y).square()
    return torch.stack([error.sum(0), y.sum(0), y.square().sum(0), torch.full_like(y[0], len(y))])


def _finish_r2(sums: Tensor) -> float:
    """One minus residual over total sum of squares; the mean over columns where there are several targets."""
    residual, total, squares, count = sums
    spread = squares - total.square() / count
    return float((1 - residual / spread).mean()) if bool((spread > 0).all()) else math.nan


def _nats(outputs: Tensor, targets: Tensor) -> Tensor:
    loss = _wide(F.cross_entropy(outputs, targets, reduction="sum", ignore_index=IGNORED_CLASS))
    return torch.stack([loss, (targets != IGNORED_CLASS).sum().to(loss.dtype)])


def _perplexity(sums: Tensor) -> float:
    nats = _ratio(sums)
    return math.exp(nats) if nats < 700 else math.inf


_METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", _hits, _ratio, "higher"),
    "error": Metric("error", _missed(_hits), _ratio, "lower"),
    "top5": Metric("top5", _top5, _ratio, "higher"),
    "perplexity": Metric("perplexity", _nats, _perplexity, "lower"),
    "mae": Metric("mae", _absolute, _ratio, "lower", in_units=True),
    "rmse": Metric("rmse", _squared, lambda sums: math.sqrt(_ratio(sums)), "lower", in_units=True),
    "r2": Metric("r2", _moments, _finish_r2, "higher", in_units=True),
}
_BINARY: dict[str, Metric] = {
    "accuracy": Metric("accuracy", _binary_hits, _ratio, "higher"),
    "error": Metric("error", _missed(_binary_hits), _ratio, "lower"),
}
_DEFAULTS: dict[str, tuple[str, ...]] = {"classes": ("accuracy",), "values": ("rmse", "r2"), "own": ()}
_RESERVED = ("loss", "lr", "grad_norm", "samples_per_second", "epoch", "seconds", "step", "kind")


def metric_names() -> tuple[str, ...]:
    """Return the names :func:`resolve_metrics` knows."""
    return tuple(_METRICS)


def default_metrics(loss: Loss) -> tuple[str, ...]:
    """Return the metrics watched where the user names none."""
    return ("accuracy",) if loss.name == "bce" else _DEFAULTS[loss.kind]


def resolve_metrics(
    spec: str | MetricFunction | Iterable[str | MetricFunction], loss: Loss
) -> tuple[Metric, ...]:
    """Turn names and functions into metrics; the first one chooses the best model.

    Args:
        spec: names of :func:`metric_names`, or functions of (outputs, targets) that return the mean over a
            batch as a scalar; those are averaged over batches, weighted by samples.
        loss: under ``bce`` the outputs are logits of yes-or-no targets, and accuracy is that of their signs.

    Raises:
        ArgumentError: where a name is unknown or used twice, or an object cannot be called.

    Example:
        >>> from kudari.train.losses import resolve_loss
        >>> [metric.name for metric in resolve_metrics(["mae", "r2"], resolve_loss("mse"))]
        ['mae', 'r2']
    """
    several: Sequence[str | MetricFunction] = (
        [spec] if isinstance(spec, str) or callable(spec) else list(spec)
    )
    metrics = tuple(_resolve(one, loss) for one in several)
    names = [metric.name for metric in metrics]
    for name in names:
        if names.count(name) > 1 or name in _RESERVED:
            raise ArgumentError(
                f"The metric name {name!r} is {'taken by the log' if name in _RESERVED else 'used twice'}.",
                fix="Give every metric its own name (a function's __name__).",
            )
    return metrics


def _resolve(spec: str | MetricFunction, loss: Loss) -> Metric:
    if isinstance(spec, str):
        if spec not in _METRICS:
            raise ArgumentError(
                f"metric {spec!r} is not known.{did_you_mean(spec, _METRICS)}",
                fix=f"Choose from {', '.join(_METRICS)}, or pass callable(outputs, targets).",
            )
        return _BINARY.get(spec, _METRICS[spec]) if loss.name == "bce" else _METRICS[spec]
    if not callable(spec):
        raise ArgumentError(
            f"A metric is a {type(spec).__name__}.",
            fix="Pass a name, or callable(outputs, targets) -> scalar.",
        )
    function = spec

    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        value = _wide(torch.as_tensor(function(outputs, targets), device=outputs.device))
        if value.numel() != 1:
            raise ArgumentError(
                f"The metric {name!r} returned shape {tuple(value.shape)}.",
                fix="Return one number, the batch's mean.",
            )
        return torch.stack(
            [value.reshape(()) * len(targets), torch.full_like(value.reshape(()), len(targets))]
        )

    name = getattr(function, "__name__", type(function).__name__)
    return Metric(name, sums, _ratio)


def loss_metric(loss: Loss) -> Metric:
    """Return the loss as a metric, so that it is averaged the same way."""

    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        weight = _wide(torch.as_tensor(loss.weight(targets), device=outputs.device))
        # A batch of nothing but ignored targets has loss nan and weight 0.
        total = torch.where(weight > 0, _wide(loss.compute(outputs, targets)) * weight, 0.0)
        return torch.stack([total, weight])

    return Metric("loss", sums, _ratio, "lower")
