"""Short trainings on the user's own model and data, each from the same start, none leaving a trace."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kudari.errors import ArgumentError, did_you_mean
from kudari.train.averaging import averaged_weights, set_mode
from kudari.train.environment import choose_device
from kudari.train.evaluation import evaluate
from kudari.train.feeds import Batch, Feed
from kudari.train.metrics import loss_metric
from kudari.train.options import Options
from kudari.train.prepare import Prepared, precision_of, prepare
from kudari.train.seeds import step_seeder
from kudari.train.sources import FeedOptions, resolve_source, training_feed
from kudari.train.stepper import Stepper
from kudari.train.threads import using_threads
from kudari.train.update import FactorRate, RunLength, build_factor
from kudari.tune.untouched import Snapshot, untouched

Factor = Callable[[int], float]


@dataclass(frozen=True)
class Trace:
    """What one short training showed.

    Attributes:
        losses: mean training loss of every step, up to the first that is not finite.
        judged: loss on each batch that was kept from training; empty where training diverged or nobody asked.
        step_seconds: median time of a step, judging and validation excluded.
    """

    losses: tuple[float, ...]
    judged: tuple[float, ...] = ()
    step_seconds: float = 0.0

    @property
    def broke(self) -> bool:
        """Whether a loss was not finite."""
        return bool(self.losses) and not math.isfinite(self.losses[-1])


class Trials:
    """Trains from one and the same start, as often as asked; made by :func:`open_trials`.

    Attributes:
        steps: optimizer steps of the user's run.
        factor: the user's schedule, ``factor(step)`` for 0 <= step < steps.
        spent: steps taken so far, judging counted as a third of a step for each batch.
    """

    def __init__(self, prepared: Prepared, options: Options, feed: Feed, factor: Factor) -> None:
        self.model, self.loss, self.optimizer = prepared.model, prepared.loss, prepared.optimizer
        self.metrics, self.valid = prepared.metrics, prepared.valid
        self.steps, self.steps_per_epoch, self.factor = (
            prepared.plan.steps,
            prepared.plan.steps_per_epoch,
            factor,
        )
        self.spent = 0.0
        self._units = prepared.about.units
        self._precision = precision_of(options, prepared.device) if options.precision == "bf16" else None
        self._clip_norm, self._feed = options.clip_norm, feed
        self._start = Snapshot(self.model, self.optimizer)
        peaks = [float(group["lr"]) for group in self.optimizer.param_groups]
        largest = max(peaks, default=0.0)
        self._ratios = [peak / largest if largest > 0 else 1.0 for peak in peaks]
        self.lr = largest

    def run(
        self,
        lr: float,
        steps: int,
        *,
        factor: Factor | None = None,
        judge: int = 0,
        stop: Callable[[list[float]], bool] | None = None,
        at: Callable[[int], bool] | None = None,
    ) -> Trace:
        """Train for some steps from the start and go back to it.

        Args:
            lr: peak learning rate, of the group with the largest; the others keep their ratio to it.
            steps: how many; 0 judges the start.
            factor: of the peak at every step; None is the user's schedule from its first step on.
            judge: how many batches, the first of the feed, are kept from training and judged at the end: the
                same ones whatever the rate and the number of steps, so that differences are those of pairs.
            stop: asked after every step with all losses so far.
            at: ``at(steps done)`` is called after every step, with the model trained so far; True ends it.
        """
        self._start.restore()
        try:
            return self._run(lr, steps, factor or self._scheduled, judge, stop, at)
        finally:
            self._start.restore()

    def first_steps(
        self,
        measure: Callable[[list[torch.Tensor]], None],
        weights: list[nn.Parameter],
        loss_scale: float = 1.0,
        count: int = 1,
    ) -> None:
        """Step ``count`` times at the optimizer's own rate with the first gradient, always from the start.

        Args:
            measure: called after each step with the weights as they were.
            weights: which parameters to remember, and to put back after each step.
            loss_scale: the loss, and with it the gradient, is multiplied by this.
            count: steps, 1 or more.
        """
        whole = self.loss
        compute = whole.compute
        self.loss = dataclasses.replace(whole, compute=lambda outputs, y: compute(outputs, y) * loss_scale)
        before: list[torch.Tensor] = []

        def at(step: int) -> bool:
            measure(before)
            for _ in range(count - 1):
                with torch.no_grad():
                    for p, old in zip(weights, before, strict=True):
                        p.copy_(old)
                self.optimizer.step()
                self.spent += 1
                measure(before)
            return True

        def factor(step: int) -> float:  # asked right before the weights change
            before.extend(p.detach().clone() for p in weights)
            return 1.0

        try:
            self.run(self.lr, 1, factor=factor, at=at)
        finally:
            self.loss = whole

    def begun(self, steps: int) -> Factor:
        """The first ``steps`` of the user's schedule, squeezed where its peak comes after half of them.

        A run that ends in the middle of a warm-up would say little about the peak.
        """
        peak = max(range(self.steps), key=self.factor)
        squeeze = max(1.0, 2.0 * peak / steps)
        return lambda step: self._scheduled(int(step * squeeze))

    def _scheduled(self, step: int) -> float:
        return self.factor(min(self.steps - 1, step))

    def _run(
        self,
        lr: float,
        steps: int,
        factor: Factor,
        judge: int,
        stop: Callable[[list[float]], bool] | None,
        at: Callable[[int], bool] | None,
    ) -> Trace:
        self._set_peaks(lr)
        self.model.train()
        set_mode(self.optimizer, training=True)
        rate = FactorRate(self.optimizer, factor)
        stepper = Stepper(self.model, self.loss, self.optimizer, rate, self._clip_norm, self._precision)
        batches = self._feed.iterate(0)
        kept = list(islice(batches, judge))
        losses: list[float] = []
        times: list[float] = []
        for step, micro in enumerate(islice(batches, steps)):
            started = time.perf_counter()
            losses.append(float(stepper.take(step, micro)[0]))
            times.append(time.perf_counter() - started)
            self.spent += 1
            if not math.isfinite(losses[-1]):
                break
            if stop is not None and stop(losses):
                return Trace(tuple(losses), (), median(times))
            if at is not None and at(step + 1):
                break
        survived = not losses or math.isfinite(losses[-1])
        judged = self._judge(kept) if kept and survived else ()
        return Trace(tuple(losses), judged, median(times) if times else 0.0)

    def _judge(self, kept: list[tuple[Batch, ...]]) -> tuple[float, ...]:
        """Loss on each batch; none if one is not finite.

        In the mode of training, where batch norms, which have hardly any history yet, do without it, and
        models that answer differently there find the loss they are made for; but without dropout's noise.
        """
        self.spent += len(kept) / 3
        for module in self.model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        values = []
        with torch.no_grad(), averaged_weights(self.optimizer):
            for micro in kept:
                parts = []
                for x, y in micro:
                    with self._context():
                        parts.append(float(self.loss.compute(self.model(x), y)))
                values.append(sum(parts) / len(parts))
        return tuple(values) if all(map(math.isfinite, values)) else ()

    def validate(self) -> dict[str, float]:
        """The model as it is, on the validation set: ``loss`` and the run's metrics."""
        assert self.valid is not None
        with averaged_weights(self.optimizer):
            values = evaluate(
                self.model,
                (loss_metric(self.loss), *self.metrics),
                self.valid,
                precision=self._context,
                units=self._units,
            )
        return values or {}

    def state_bytes(self) -> int:
        """Bytes of the optimizer's state as it is; asked from ``at``, it is that of a run."""
        states = [state for state in self.optimizer.state.values() if isinstance(state, dict)]
        return sum(v.nbytes for state in states for v in state.values() if isinstance(v, torch.Tensor))

    def _context(self) -> AbstractContextManager[object]:
        return self._precision() if self._precision is not None else nullcontext()

    def _set_peaks(self, lr: float) -> None:
        for group, ratio in zip(self.optimizer.param_groups, self._ratios, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr * ratio)
            else:
                group["lr"] = lr * ratio


@contextmanager
def open_trials(model: nn.Module, train: Any, valid: Any, options: Options) -> Iterator[Trials]:
    """Prepare trials of the run that ``kudari.fit(model, train, valid, ...)`` would be.

    Afterwards model, optimizer, random state and loader are as before, byte by byte, whatever happened.

    Args:
        model, train, valid: as for :func:`kudari.fit`.
        options: its keyword arguments; nothing is written.

    Raises:
        ArgumentError: for what ``fit`` refuses, a scheduler that cannot be shortened, or data that can be
            read once only.
    """
    options.check()
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is a {type(model).__name__}.", fix="Pass a torch.nn.Module.")
    _refuse_sizeless(model)
    _refuse_once_only(train)
    if isinstance(options.schedule, LRScheduler):
        raise ArgumentError(
            f"schedule is a {type(options.schedule).__name__}, which cannot be shortened for a trial.",
            fix="Pass a schedule by name, such as 'warmup_cosine', or factor(step, total_steps).",
        )
    own = options.optimizer if isinstance(options.optimizer, Optimizer) else None
    device = choose_device(options.device)
    with untouched(model, own, (train, valid, options.augment)):
        prepared = prepare(model.to(device), train, valid, options, device)
        source = resolve_source(getattr(train, "train", train), "train")
        feed = training_feed(
            source,
            FeedOptions(options.batch_size, options.accumulate, options.seed, options.augment, device),
            step_seeder(options.seed, device),
        )
        length = RunLength(prepared.plan.steps, prepared.plan.steps_per_epoch, options.batch_size)
        factor = build_factor(options.schedule, length)[0]
        with using_threads(prepared.threads.count):
            yield Trials(prepared, options, feed, factor)


def shaped(caller: str, given: Mapping[str, Any], **own: Any) -> Options:
    """The options of a run from keyword arguments.

    Args:
        caller: for the message.
        given: what the user passed on to :func:`kudari.fit`.
        own: what the caller sets.

    Raises:
        ArgumentError: ``fit`` does not know an argument, or the caller sets it.
    """
    known = {f.name for f in dataclasses.fields(Options)}
    for name in given:
        if name in own:
            raise ArgumentError(f"{caller}: {name!r} cannot be set: it is tried.", fix="Leave it away.")
        if name not in known:
            raise ArgumentError(
                f"{caller}: {name!r} is not an argument.{did_you_mean(name, known)}",
                fix="It takes those of kudari.fit that shape a run, such as steps, clip_norm, precision.",
            )
    return Options(**own, **given)


def _refuse_sizeless(model: nn.Module) -> None:
    lazy = (*model.named_parameters(), *model.named_buffers())
    name = next((n for n, t in lazy if is_lazy(t)), None)
    if name is not None:
        raise ArgumentError(
            f"The model's {name} has no size yet.",
            why="Trials begin from the model's own weights and go back to them; it has none.",
            fix="Run a batch through the model first: model(x).",
        )


def _refuse_once_only(train: Any) -> None:
    if isinstance(train, Iterator):
        raise ArgumentError(
            "data is an iterator, which can be read once only.",
            why="Every trial begins with the same batches, and your run must find them all again.",
            fix="Pass a list, a Dataset or a DataLoader.",
        )
