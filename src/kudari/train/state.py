"""What a loop works with, when what is due, and where it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer

from kudari.record import MetricsWriter
from kudari.train.evaluation import Units
from kudari.train.losses import Loss
from kudari.train.metrics import Metric
from kudari.train.progress import Progress
from kudari.train.run import Status
from kudari.train.signals import StopRequest
from kudari.train.sources import EvaluationSet
from kudari.train.update import Rate


@dataclass(frozen=True)
class Plan:
    """When what is due; all in optimizer steps.

    Attributes:
        steps: length of the run.
        steps_per_epoch: None where unknown.
        log_every, eval_every: fixed strides.
        save_every: a stride, None to go by the clock.
        clip_norm: largest gradient norm, None for no limit.
    """

    steps: int
    steps_per_epoch: int | None
    log_every: int
    eval_every: int
    save_every: int | None = None
    clip_norm: float | None = None


@dataclass(frozen=True)
class Parts:
    """What a loop works with."""

    model: nn.Module
    loss: Loss
    metrics: tuple[Metric, ...]
    optimizer: Optimizer
    rate: Rate
    valid: EvaluationSet | None
    log: MetricsWriter
    progress: Progress
    stop: StopRequest
    precision: Callable[[], AbstractContextManager[object]] | None = None
    units: Units | None = None


@dataclass
class State:
    """Where a run is; what a checkpoint keeps beside weights and optimizer.

    Attributes:
        step: optimizer steps done.
        seconds: trained so far, earlier sessions included.
        evaluated_step: last step with a validation, 0 if none.
        train, valid: latest values.
        best: value, step and metrics of the best validation.
        best_model: copy of the weights at that step.
        samples, train_seconds: of this session, validation and saving excluded.
        status, message: how it ended.
    """

    step: int = 0
    seconds: float = 0.0
    evaluated_step: int = 0
    train: dict[str, float] = field(default_factory=dict)
    valid: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    best_model: dict[str, Tensor] | None = None
    samples: int = 0
    train_seconds: float = 0.0
    status: Status = "finished"
    message: str = ""


def best_by(metrics: tuple[Metric, ...]) -> tuple[str, int]:
    """Return the value that chooses the best model and its sign: 1 where higher is better.

    The first metric, where it is known which way is up; the validation loss otherwise.
    """
    if metrics and metrics[0].better != "unknown":
        return metrics[0].name, 1 if metrics[0].better == "higher" else -1
    return "loss", -1
