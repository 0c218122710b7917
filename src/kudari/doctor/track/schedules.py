"""Schedulers, gradient clipping and loss scaling: the order of their calls and the rates that came out."""

from __future__ import annotations

import math
import weakref
from typing import Any

from torch.optim import lr_scheduler

from kudari.doctor.observe.graph import local_part
from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import Site
from kudari.doctor.track.counting import Hits, Series
from kudari.doctor.track.optimizers import OptimizerRecord, OptimizerTracker, marks

COMPOSITES = (lr_scheduler.SequentialLR, lr_scheduler.ChainedScheduler)


class SchedulerRecord:
    """What is known of one scheduler."""

    def __init__(self, scheduler: Any, owner: OptimizerRecord, site: Site | None) -> None:
        self.ref = weakref.ref(scheduler)
        self.kind = type(scheduler).__name__
        self.owner, self.site = owner, site
        self.built_at = owner.steps
        self.built_attempts = owner.attempts
        self.steps = 0
        self.step_site: Site | None = None
        self.first_step_before_optimizer = False
        self.composite = isinstance(scheduler, COMPOSITES)
        self.member = False
        self.resumed = False
        self.rates = Series()
        self.fed: list[float] = []
        self.mode = getattr(scheduler, "mode", "min")
        self.plateau = isinstance(scheduler, lr_scheduler.ReduceLROnPlateau)
        self.horizon = next(
            (
                int(v)
                for k in ("T_max", "total_steps", "total_iters")
                if isinstance(v := getattr(scheduler, k, None), int)
            ),
            None,
        )
        self.first_rate = float(scheduler.optimizer.param_groups[0]["lr"])
        self.cuts = 0
        self.epochs = False


class ClipRecord:
    """All clips from one point of the user's code."""

    def __init__(self, site: Site | None) -> None:
        self.site = site
        self.count = 0
        self.consumed, self.empty, self.scaled = Hits(), Hits(), Hits()
        self.first_was_empty = False
        self.active = 0


class ScheduleTracker:
    """All schedulers, clips and scalers of a run."""

    def __init__(self, stream: Stream, optimizers: OptimizerTracker) -> None:
        self.stream, self.optimizers = stream, optimizers
        self.records: list[SchedulerRecord] = []
        self.by_key: dict[int, SchedulerRecord] = {}
        self.clips: dict[Site | None, ClipRecord] = {}
        self.scalers: dict[int, Any] = {}
        self.unscaled: set[int] = set()
        optimizers.on_step.append(self._step)

    def scheduler_built(self, scheduler: Any, args: Any, kwargs: dict[str, Any], site: Site | None) -> None:
        """A scheduler's constructor ran."""
        optimizer = getattr(scheduler, "optimizer", None)
        if optimizer is None:
            return
        record = SchedulerRecord(scheduler, self.optimizers.record(optimizer), site)
        record.resumed = kwargs.get("last_epoch", -1) != -1
        del args
        for child in getattr(scheduler, "_schedulers", ()):
            known = self.by_key.get(id(child))
            if known is not None:
                known.member = True
        self.records.append(record)
        self.by_key[id(scheduler)] = record

    def scheduler_stepped(self, scheduler: Any, args: Any, kwargs: dict[str, Any], site: Site | None) -> None:
        """A scheduler's ``step`` is about to run."""
        record = self.by_key.get(id(scheduler))
        if record is None or record.ref() is not scheduler:
            return
        owner = record.owner
        if not record.steps:
            untouched = owner.steps == record.built_at and owner.attempts == record.built_attempts
            record.first_step_before_optimizer = untouched and not record.resumed
            record.step_site = site
        record.steps += 1
        if record.plateau:
            value = kwargs.get("metrics", args[0] if args else None)
            self.stream.quiet += 1
            try:
                number = float(value) if value is not None else math.nan
            finally:
                self.stream.quiet -= 1
            if math.isfinite(number) and len(record.fed) < 10000:
                record.fed.append(number)
        elif args or kwargs.get("epoch") is not None:
            record.epochs = True

    def _step(self, owner: OptimizerRecord, begins: bool) -> None:
        if not begins:
            self.unscaled.discard(owner.key)
        else:
            self.note_rates(owner)

    def note_rates(self, owner: OptimizerRecord) -> None:
        """Keep the learning rate of this step for the schedulers of an optimizer."""
        for record in self.by_key.values():
            if record.owner is owner:
                optimizer = owner.ref()
                if optimizer is not None:
                    rate = float(optimizer.param_groups[0]["lr"])
                    if record.rates.values and rate < record.rates.values[-1]:
                        record.cuts += 1
                    record.rates.add(owner.steps, rate)

    def scaler_steps(self, scaler: Any, optimizer: Any) -> None:
        """A scaler is asked to step an optimizer."""
        self.scalers[id(optimizer)] = scaler
        self.unscaled.discard(id(optimizer))

    def scaler_unscaled(self, scaler: Any, optimizer: Any) -> None:
        """Gradients of an optimizer are divided by the scale."""
        self.scalers[id(optimizer)] = scaler
        self.unscaled.add(id(optimizer))

    def loss_scale(self) -> float:
        """The factor a scaler multiplies losses with; 1 without one."""
        scaler = next(iter(self.scalers.values()), None)
        return float(scaler.get_scale()) if scaler is not None else 1.0

    def clipped(self, params: list[Any], limit: Any, site: Site | None) -> None:
        """Gradients are about to be clipped."""
        limit = float(limit)
        if not math.isfinite(limit) or not params:
            return
        record = self.clips.setdefault(site, ClipRecord(site))
        record.count += 1
        now = marks(params)
        if all(mark is None for mark in now) or self._all_zero(params, record):
            record.empty.hit(self.stream.tick)
            record.first_was_empty = record.first_was_empty or record.count == 1
            return
        wanted = {id(p): mark for p, mark in zip(params, now, strict=True) if mark is not None}
        owner, known = self._owner(wanted)
        if owner is None:
            return
        if known and all(wanted[i] == mark for i, mark in known.items()):
            record.consumed.hit(self.stream.tick)
        scaler = self.scalers.get(owner.key)
        if scaler is not None and owner.key not in self.unscaled and limit < 100:
            scale = float(scaler.get_scale())
            if scale > 1:
                record.scaled.hit(self.stream.tick, scale=scale, max_norm=limit)

    def _owner(self, wanted: dict[int, Any]) -> tuple[OptimizerRecord | None, dict[int, Any]]:
        for owner in self.optimizers.live():
            known = {i: mark for i, mark in zip(owner.ids, owner.after_step, strict=False) if i in wanted}
            if known:
                return owner, known if owner.steps else {}
        return None, {}

    def _all_zero(self, params: list[Any], record: ClipRecord) -> bool:
        if record.count > 20 and record.count % 25:
            return False
        self.stream.quiet += 1
        try:
            return all(g is None or not bool(local_part(g).any()) for g in (p.grad for p in params))
        finally:
            self.stream.quiet -= 1
