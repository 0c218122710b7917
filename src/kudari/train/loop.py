"""The training loop.

A step runs batch, forward, loss, backward, learning rate, update, and asks the device nothing: losses stay there as tensors
and are read together at log points, redraws and saves. Steps run in stretches with no questions between them but one,
whether somebody pressed Ctrl-C; a stretch ends where something is due.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kudari.record import MetricsWriter
from kudari.train.evaluation import Units, evaluate, finish, metric_sums
from kudari.train.feeds import Batch
from kudari.train.losses import Loss
from kudari.train.metrics import Metric, loss_metric
from kudari.train.progress import Now, Progress
from kudari.train.run import Status
from kudari.train.signals import StopRequest
from kudari.train.sources import EvaluationSet
from kudari.train.stepper import Stepper
from kudari.train.update import Rate, current_rate

STRETCH_SECONDS = 0.02
"""Steps between two looks at the clock take about this long."""
SAVE_SECONDS = 30.0
SAVE_SHARE = 0.02
"""Unless told otherwise, a checkpoint every 30 seconds, and never more than 2 % of the time spent on them."""


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


class Loop:
    """Train from ``state.step`` to the end, an interruption or a failure.

    Args:
        parts: the objects.
        plan: the strides.
        state: changed in place.
        save: writes a checkpoint of the state; called when one is due.
    """

    def __init__(self, parts: Parts, plan: Plan, state: State, save: Callable[[], None]) -> None:
        self.parts, self.plan, self.state, self._save = parts, plan, state, save
        self._stepper = Stepper(
            parts.model, parts.loss, parts.optimizer, parts.rate, plan.clip_norm, parts.precision
        )
        self._pending: list[tuple[Tensor, int]] = []
        self._logged_loss, self._logged_samples = 0.0, 0
        self._stretch = 1
        self._started = self._saved = time.perf_counter()
        self._seconds_before, self._step_before = state.seconds, state.step
        self._save_pause = SAVE_SECONDS

    def run(self, steps: Iterator[tuple[Batch, ...]]) -> None:
        """Train on a stream of steps that begins at ``state.step``."""
        state, plan, stop = self.state, self.plan, self.parts.stop
        self.parts.model.train()
        if state.step and state.evaluated_step != state.step and self._evaluation_due():
            self._evaluate()  # the session before was stopped in the middle of it
        while state.step < plan.steps and not stop.requested and state.status == "finished":
            self._advance(steps, self._next_stop())
            self._attend()
        if stop.requested and state.step < plan.steps and state.status == "finished":
            state.status = "interrupted"
        if state.status != "failed":
            self._read_losses()
            self.save()
        state.seconds = self._seconds()
        self._redraw()

    def _next_stop(self) -> int:
        step, plan = self.state.step, self.plan
        strides = [plan.log_every, plan.save_every]
        if self.parts.valid is not None:
            strides.append(plan.eval_every)
        due = [step - step % stride + stride for stride in strides if stride]
        return min(plan.steps, step + self._stretch, *due)

    def _advance(self, steps: Iterator[tuple[Batch, ...]], until: int) -> None:
        """Train up to step ``until``, without a look at the device."""
        state, stop, pending, take = self.state, self.parts.stop, self._pending, self._stepper.take
        first, started = state.step, time.perf_counter()
        while state.step < until and not stop.requested:
            try:
                batches = next(steps)
            except Exception:
                if stop.requested:  # loader processes were sent the same signal
                    break
                raise
            taken = take(state.step, batches)
            pending.append(taken)
            state.samples += taken[1]
            state.step += 1
        took = time.perf_counter() - started
        state.train_seconds += took
        if state.step > first:
            self._stretch = max(1, min(1000, int(STRETCH_SECONDS * (state.step - first) / max(took, 1e-9))))

    def _attend(self) -> None:
        """Do what is due at this step."""
        state, plan, now = self.state, self.plan, time.perf_counter()
        if state.step % plan.log_every == 0 or state.step == plan.steps:
            self._log()
        if state.status == "finished" and self._evaluation_due() and state.evaluated_step != state.step:
            self._evaluate()
        if state.status == "finished" and self._save_due(now):
            self.save()
        if self.parts.progress.due(now):
            self._redraw()
            self.parts.log.flush()

    def _evaluation_due(self) -> bool:
        step, plan = self.state.step, self.plan
        return self.parts.valid is not None and (step % plan.eval_every == 0 or step == plan.steps)

    def _save_due(self, now: float) -> bool:
        if self.plan.save_every is not None:
            return self.state.step % self.plan.save_every == 0
        return now - self._saved >= self._save_pause

    def _log(self) -> None:
        state, parts = self.state, self.parts
        if not self._read_losses():
            return
        values = {"loss": self._logged_loss / max(self._logged_samples, 1)}
        self._logged_loss, self._logged_samples = 0.0, 0
        if self._stepper.last is not None:
            outputs, y = self._stepper.last
            with torch.no_grad():
                sums = metric_sums(parts.metrics, outputs.detach(), y, parts.units)
                norms = self._stepper.gradient_norms()
            values.update(finish((*parts.metrics, _NORM), [*sums, norms]))
        state.train = values
        parts.log.write("train", state.step, {**self._stamp(), **values, **self._pace()})

    def _read_losses(self) -> bool:
        """Read the losses of all steps since the last time, in one transfer; False where one is not finite."""
        if not self._pending:
            return True
        losses = torch.stack([loss for loss, _ in self._pending]).tolist()
        counts = [samples for _, samples in self._pending]
        first = self.state.step - len(losses)
        self._pending.clear()
        for offset, (value, samples) in enumerate(zip(losses, counts, strict=True)):
            if not math.isfinite(value):
                self._fail(f"The loss became {value} at step {first + offset + 1}")
                return False
            self._logged_loss += value * samples
            self._logged_samples += samples
        return True

    def _fail(self, what: str) -> None:
        state = self.state
        state.status = "failed"
        state.message = (
            f"{what} (learning rate {current_rate(self.parts.optimizer):.3g}). Try a learning rate ten times lower, "
            "clip_norm=1.0, a longer warm-up, or look for invalid values in the data."
        )
        self.parts.log.write("event", state.step, {"name": "failed", "text": state.message})

    def _evaluate(self) -> None:
        state, parts = self.state, self.parts
        assert parts.valid is not None
        if not self._read_losses():
            return
        values = evaluate(
            parts.model,
            (loss_metric(parts.loss), *parts.metrics),
            parts.valid,
            precision=parts.precision or nullcontext,
            stopped=lambda: bool(parts.stop.requested),
            units=parts.units,
        )
        if values is None:
            return
        state.evaluated_step, state.valid = state.step, values
        parts.rate.observe(values["loss"])
        self._note_best(values)
        parts.log.write("valid", state.step, {**self._stamp(), **values})

    def _note_best(self, values: dict[str, float]) -> None:
        name, sign = best_by(self.parts.metrics)
        value, state = values[name], self.state
        if math.isnan(value) or (state.best and sign * value <= sign * state.best["value"]):
            return
        state.best = {"value": value, "step": float(state.step), **values}
        current = self.parts.model.state_dict()
        if state.best_model is None:
            state.best_model = {k: v.detach().clone() for k, v in current.items() if isinstance(v, Tensor)}
        else:
            for key, copy in state.best_model.items():
                copy.copy_(current[key])

    def save(self) -> None:
        """Write a checkpoint, unless the weights are no longer finite: the last good one must stay."""
        started = time.perf_counter()
        if self.state.step == 0 or not self._read_losses():
            return
        if not self._stepper.weights_are_finite():
            self._fail(f"A weight became infinite or NaN by step {self.state.step}")
            return
        self.state.seconds = self._seconds()
        self._save()
        self._saved = time.perf_counter()
        self._save_pause = max(SAVE_SECONDS, (self._saved - started) / SAVE_SHARE)

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._started

    def _epoch(self) -> float | None:
        per_epoch = self.plan.steps_per_epoch
        return None if per_epoch is None else self.state.step / per_epoch

    def _stamp(self) -> dict[str, float]:
        epoch = self._epoch()
        stamp = {"seconds": round(self._seconds(), 4)}
        return stamp if epoch is None else {"epoch": round(epoch, 4), **stamp}

    def _pace(self) -> dict[str, float]:
        state = self.state
        pace = state.samples / state.train_seconds if state.train_seconds else 0.0
        return {"lr": current_rate(self.parts.optimizer), "samples_per_second": round(pace, 1)}

    def _redraw(self) -> None:
        state, parts = self.state, self.parts
        self._read_losses()
        if self._logged_samples:
            loss = self._logged_loss / self._logged_samples
        else:
            loss = state.train.get("loss", math.nan)
        done = state.step - self._step_before
        left = (self._seconds() - self._seconds_before) / done * (self.plan.steps - state.step) if done else None
        name = parts.metrics[0].name if parts.metrics else ""
        value = state.valid.get(name, state.train.get(name))
        pace = self._pace()
        parts.progress.show(
            Now(
                step=state.step,
                total_steps=self.plan.steps,
                epoch=self._epoch(),
                loss=loss,
                metric=None if value is None else (name, value),
                lr=pace["lr"],
                samples_per_second=pace["samples_per_second"],
                seconds_left=left,
            )
        )


_NORM = Metric("grad_norm", lambda outputs, targets: outputs, lambda norms: math.hypot(*norms.tolist()))


def best_by(metrics: tuple[Metric, ...]) -> tuple[str, int]:
    """Return the value that chooses the best model and its sign: 1 where higher is better.

    The first metric, where it is known which way is up; the validation loss otherwise.
    """
    if metrics and metrics[0].better != "unknown":
        return metrics[0].name, 1 if metrics[0].better == "higher" else -1
    return "loss", -1

