"""The training loop.

A step runs batch, forward, loss, backward, learning rate, update, and asks the device nothing: losses stay
there as tensors and are read together at log points, redraws and saves. Steps run in stretches with no
questions between them but one, whether somebody pressed Ctrl-C; a stretch ends where something is due.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor

from kudari.train.averaging import averaged_weights, set_mode, warn_of_batch_norm
from kudari.train.evaluation import evaluate, finish, metric_sums
from kudari.train.feeds import Batch
from kudari.train.ledger import LossLedger
from kudari.train.metrics import Metric, loss_metric
from kudari.train.progress import Now
from kudari.train.sources import EvaluationSet
from kudari.train.state import Parts, Plan, State, best_by
from kudari.train.stepper import Stepper
from kudari.train.update import current_rate

STRETCH_SECONDS = 0.02
"""Steps between two looks at the clock take about this long."""
SAVE_SECONDS = 30.0
SAVE_SHARE = 0.02
"""Unless told otherwise, a checkpoint every 30 seconds, and never more than 2 % of the time spent on them."""


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
        self._losses = LossLedger()
        self._stretch = 1
        self._started = self._saved = time.perf_counter()
        self._seconds_before, self._step_before = state.seconds, state.step
        self._save_pause = SAVE_SECONDS

    def run(self, steps: Iterator[tuple[Batch, ...]]) -> None:
        """Train on a stream of steps that begins at ``state.step``."""
        state, plan, stop = self.state, self.plan, self.parts.stop
        self.parts.model.train()
        set_mode(self.parts.optimizer, training=True)
        warn_of_batch_norm(self.parts.model, self.parts.optimizer)
        if state.step and state.evaluated_step != state.step and self._evaluation_due():
            self._evaluate()  # the session before was stopped in the middle of it
        while state.step < plan.steps and not stop.is_set() and state.status == "finished":
            self._advance(steps, self._next_stop())
            self._attend()
        if stop.is_set() and state.status == "finished" and not self._complete():
            state.status = "interrupted"
        self.save()
        set_mode(self.parts.optimizer, training=False)
        state.seconds = self._seconds()
        self._redraw()

    def _complete(self) -> bool:
        """Whether every step and the validation after the last one are done."""
        state = self.state
        validated = self.parts.valid is None or state.evaluated_step == state.step
        return state.step >= self.plan.steps and validated

    def _next_stop(self) -> int:
        step, plan = self.state.step, self.plan
        strides = [plan.log_every, plan.save_every]
        if self.parts.valid is not None:
            strides.append(plan.eval_every)
        due = [step - step % stride + stride for stride in strides if stride]
        return min(plan.steps, step + self._stretch, *due)

    def _advance(self, steps: Iterator[tuple[Batch, ...]], until: int) -> None:
        """Train up to step ``until``, without a look at the device."""
        state, stop, unread, take = self.state, self.parts.stop, self._losses.unread, self._stepper.take
        first, started = state.step, time.perf_counter()
        while state.step < until and not stop.is_set():
            try:
                batches = next(steps)
            except Exception:
                if stop.is_set():  # loader processes were sent the same signal
                    break
                raise
            taken = take(state.step, batches)
            unread.append(taken)
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
        values = {"loss": self._mean_loss()}
        self._losses.start_anew()
        if self._stepper.last is not None:
            outputs, y = self._stepper.last
            with torch.no_grad():
                sums = metric_sums(parts.metrics, outputs.detach(), y, parts.units)
                norms = self._stepper.gradient_norms()
            # A metric may be undefined on one micro-batch, as R² is on a single sample: then it has no value.
            found = finish((*parts.metrics, _NORM), [*sums, norms])
            values.update({k: v for k, v in found.items() if k == _NORM.name or not math.isnan(v)})
        state.train = values
        parts.log.write("train", state.step, {**self._stamp(), **values, **self._pace()})

    def _read_losses(self) -> bool:
        """Read all losses so far; False, and the run has failed, where one is not finite."""
        found = self._losses.read()
        if found is None:
            return True
        steps_after, value = found
        self._fail(f"The loss became {value} at step {self.state.step - steps_after}")
        return False

    def _mean_loss(self) -> float:
        mean = self._losses.mean()
        return self.state.train.get("loss", math.nan) if mean is None else mean

    def _fail(self, what: str) -> None:
        state = self.state
        state.status = "failed"
        state.message = (
            f"{what} (learning rate {current_rate(self.parts.optimizer):.3g}). Try a learning rate ten times "
            "lower, clip_norm=1.0, a longer warm-up, or look for invalid values in the data."
        )
        self.parts.log.write("event", state.step, {"name": "failed", "text": state.message})

    def _evaluate(self) -> None:
        assert self.parts.valid is not None
        if self._read_losses():
            with averaged_weights(self.parts.optimizer):
                self._judge(self.parts.valid)

    def _judge(self, valid: EvaluationSet) -> None:
        state, parts = self.state, self.parts
        values = evaluate(
            parts.model,
            (loss_metric(parts.loss), *parts.metrics),
            valid,
            precision=parts.precision or nullcontext,
            stopped=parts.stop.is_set,
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
        if self.state.step == 0 or self.state.status == "failed" or not self._read_losses():
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
        done = state.step - self._step_before
        left = (
            (self._seconds() - self._seconds_before) / done * (self.plan.steps - state.step) if done else None
        )
        name = parts.metrics[0].name if parts.metrics else ""
        value = state.valid.get(name, state.train.get(name))
        pace = self._pace()
        parts.progress.show(
            Now(
                step=state.step,
                total_steps=self.plan.steps,
                epoch=self._epoch(),
                loss=self._mean_loss(),
                metric=None if value is None else (name, value),
                lr=pace["lr"],
                samples_per_second=pace["samples_per_second"],
                seconds_left=left,
            )
        )


_NORM = Metric("grad_norm", lambda outputs, targets: outputs, lambda norms: math.hypot(*norms.tolist()))
