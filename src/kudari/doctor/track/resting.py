"""Rest: a loop that has proved ordinary is watched in full for two steps of every 25.

Ordinary is one optimizer, one backward a step, gradients wiped between two steps, one clipping at most, no
scaler, the model in training mode, and nothing found so far. Between the full looks losses are read, one
gradient is glanced at, rows are noted and steps counted. Whatever is not ordinary ends the rest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kudari.doctor.observe.graph import read_value
from kudari.doctor.places import Site
from kudari.doctor.track.calls import Call

if TYPE_CHECKING:
    from kudari.doctor.track.calls import Root
    from kudari.doctor.track.optimizers import OptimizerRecord
    from kudari.doctor.track.run import RunFacts

REST_AFTER = 100
MIN_EVERY = 4


class Rest:
    """Decides when to rest, and does the little that is done then.

    Attributes:
        allowed: False where somebody asked for a verdict while the run goes on.
        backwards: those of this step.
        odd: something in this step does not belong to an ordinary loop.
        called: models that this step has called for training.
        others: steps so far that did not use the gradients of exactly one backward.
    """

    def __init__(self, run: RunFacts) -> None:
        self.run, self.stream, self.allowed = run, run.stream, True
        self.backwards = 0
        self.odd = False
        self.others = 0
        self.called: list[Root] = []

    def turns(self, tick: int) -> None:
        """A step has ended; ``tick`` of them are done."""
        phase, every = tick % self.stream.every, self.stream.every
        if self.stream.resting:
            if phase in (0, every - 1) or self.odd:
                self._wakes_between_steps(tick)
        elif phase == 1 and every >= MIN_EVERY:
            self.stream.resting = self._may() and tick > REST_AFTER
        self.backwards = 0
        self.called.clear()

    def _may(self) -> bool:
        run, live = self.run, self.run.optimizers.live()
        if not self.allowed or len(live) != 1 or len(run.backwards.sites) != 1:
            return False
        clips = run.schedules.clips.values()
        if len(clips) > 1 or any(c.consumed.count or c.empty.count or c.scaled.count for c in clips):
            return False
        if run.health.bad_loss is not None or run.health.bad_gradient:
            return False
        windows = live[0].windows
        others, self.others = self.others, windows.total() - windows[1, True]
        return (
            self.others == others
            and _is_ordinary(live[0])
            and not any(root.training_off.count or root.frozen_norm_updates.count for root in run.roots.roots)
        )

    def _wakes_between_steps(self, tick: int) -> None:
        self.stream.resting = self.odd = False
        for record in self.run.optimizers.live():
            record.open = []
            record.after()
        if tick % 50 == 49:
            self.run.roots.scan_retained()

    def notices(self) -> None:
        """Something happened that does not belong to an ordinary loop; the rest ends with this step."""
        self.odd = True

    # -- what is left of the events ---------------------------------------------------------------

    def call(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> bool:
        """A model is called for training; False where it needs the full look."""
        root = self.run.roots.of(module)
        if root is None or not root.trained_by:
            return False
        self.called.append(root)
        root.calls += 1
        root.grad_calls += 1
        self.run.roots.keeps_batch(root, args, kwargs)
        x = next((t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)), None)
        if x is not None and x.dim():
            call = Call(root, self.stream.tick, True, True)
            self.run.data.note_feeding(call, x)
            self.run.data.rows.called(call, root, x)
        return True

    def backward(self, site: Site | None, loss: Any) -> bool:
        """A backward is about to run; False where it needs the full look."""
        record = self.run.backwards.sites.get(site)
        if record is None or not isinstance(loss, torch.Tensor) or loss.dim():
            self.stream.resting = False
            return False
        self.backwards += 1
        self.odd = self.odd or self.backwards > 1
        if loss.is_cpu:
            value = float(read_value(loss))
            if not math.isfinite(value):
                self.stream.resting = False
                return False
            record.losses.add(self.stream.tick, value)
            record.recent.append(value)
        return True

    def clipped(self) -> None:
        """Gradients are clipped, as they were before; or for the first time."""
        if not self.run.schedules.clips:
            self.odd = True
        for record in self.run.schedules.clips.values():
            record.count += 1

    def step_begins(self, optimizer: Any, has_closure: bool) -> bool:
        """A step is about to run; False where it needs the full look."""
        record = self.run.optimizers.by_key.get(id(optimizer))
        if has_closure or record is None or record.ref() is not optimizer:
            self.stream.resting = False
            return False
        self.run.health.glance(record)
        if self.run.schedules.by_key:
            self.run.schedules.note_rates(record)
        return True

    def step_ends(self, optimizer: Any) -> None:
        """The step is over: what would have been counted is counted."""
        record = self.run.optimizers.record(optimizer)
        self.odd = self.odd or self.backwards != 1 or bool(self.run.health.bad_gradient)
        record.steps += 1
        record.backwards += 1
        record.windows[1, True] += 1
        for root in self.called:
            root.training_calls += 1
            root.training_on += bool(root.mode_layers)
            if root.current is not None:
                self.run.roots.finish_pass(root)
        self.stream.advance(record.steps)


def _is_ordinary(record: OptimizerRecord) -> bool:
    strange = record.open or record.closure or record.in_backward or record.attempts
    return not (strange or record.empty_steps or record.stale_steps.count or record.lost.count)
