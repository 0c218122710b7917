"""The life of gradients: built by a backward, consumed by a step, wiped, clipped, or left over.

A gradient is known by its identity and version. Whatever the user's code does between two events shows in
that pair; calls of ``zero_grad`` are not trusted, the state of ``p.grad`` is.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any

from kudari.doctor.observe.graph import local_part
from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import Site, user_site
from kudari.doctor.track.backwards import Backward, BackwardTracker
from kudari.doctor.track.counting import Hits

Mark = tuple[int, int] | None
# Elements of a gradient on the host that cost nothing to add up.
GLANCE = 4096


def marks(params: list[Any]) -> list[Mark]:
    """Identity and version of every gradient."""
    if params and local_part(params[0]) is not params[0]:
        # Sharded gradients are added to in place of their parts, which have versions of their own.
        return [None if (grad := p.grad) is None else (id(grad), local_part(grad)._version) for p in params]
    return [None if (grad := p.grad) is None else (id(grad), grad._version) for p in params]


class OptimizerRecord:
    """What is known of one optimizer; holds its parameters only while the optimizer lives."""

    def __init__(self, optimizer: Any, site: Site | None, ordinal: int, tick: int) -> None:
        self.ref = weakref.ref(optimizer, self._died)
        self.key = id(optimizer)
        self.kind = type(optimizer).__name__
        self.site, self.ordinal, self.built_tick = site, ordinal, tick
        self.alive = True
        self.steps = 0
        self.attempts = 0
        self.closure = False  # one step may run several backwards, as with LBFGS
        self.in_closure = False
        self.backwards_at_begin = 0
        self.attempting = False
        self.wiped_upto = 0
        self.at_backward = (0, 0)
        self.in_backward = False
        self.params: list[Any] = []
        self.glanced_at: list[Any] = []  # whose gradients are looked at in every step
        self.ids: tuple[int, ...] = ()
        self.reached: list[int] = []
        self.pending: list[int] = []
        self.stale: list[bool] = []
        self.after_step: list[Mark] = []
        self.last: list[Mark] = []
        self.before: list[Mark] = []
        self.open: list[Backward] = []
        self.backwards = 0
        self.stale_steps = Hits()
        self.empty_steps = 0
        self.inert_steps = 0
        self.lost = Hits()
        self.lost_site: Site | None = None
        self.step_site: Site | None = None
        self.windows: Counter[tuple[int, bool]] = Counter()
        self.window_site: Site | None = None
        self.frozen_changed = Hits()
        self.frozen_names: list[str] = []
        self.start_versions: list[int] = []
        self.stateful = "SGD" not in self.kind
        self.hyper: dict[str, Any] = {}
        self.decayed_vectors: list[int] | None = None
        self.decay = 0.0
        self.sees_groups(optimizer)
        self.start_versions = [p._version for p in self.params]
        self.changed = False

    def _died(self, _: Any) -> None:
        self.changed = self.params_changed()
        self.alive = False
        self.params, self.glanced_at, self.before, self.last, self.after_step = [], [], [], [], []

    def params_changed(self) -> bool:
        """True when any parameter held from the start has another version now."""
        pairs = zip(self.start_versions, self.params, strict=False)
        return self.changed or any(p._version != version for version, p in pairs)

    def sees_groups(self, optimizer: Any) -> None:
        """Read the parameter groups, keeping what is known of parameters that stay."""
        params = [p for group in optimizer.param_groups for p in group["params"]]
        if len(params) == len(self.params) and all(a is b for a, b in zip(params, self.params, strict=True)):
            return
        known = {id(p): i for i, p in enumerate(self.params)}
        at = [known.get(id(p)) for p in params]
        self.reached = [0 if i is None else self.reached[i] for i in at]
        self.pending = [0 if i is None else self.pending[i] for i in at]
        self.stale = [False if i is None else self.stale[i] for i in at]
        self.after_step = [None if i is None else self.after_step[i] for i in at]
        self.last = [None if i is None else self.last[i] for i in at]
        self.params, self.ids = params, tuple(map(id, params))
        self.glanced_at = [p for p in params[:2] if p.numel() <= GLANCE and p.device.type == "cpu"]
        if optimizer.param_groups:
            group = optimizer.param_groups[0]
            self.hyper = {k: v for k, v in group.items() if isinstance(v, (int, float, bool, tuple))}
            vectors = [
                id(p)
                for g in optimizer.param_groups
                if g.get("weight_decay")
                for p in g["params"]
                if p.dim() < 2
            ]
            self.decayed_vectors = vectors
            self.decay = max(
                (float(g.get("weight_decay") or 0.0) for g in optimizer.param_groups), default=0.0
            )
            self.stateful = "SGD" not in self.kind or bool(group.get("momentum"))

    # -- events -----------------------------------------------------------------------------------

    def backward_begins(self, stream: Stream) -> None:
        """Notice gradients that were wiped since the last event."""
        self.before = now = marks(self.params)
        if self.open and now != self.last:
            self._notice_wipe(now, stream)

    def _versions(self) -> tuple[int, int]:
        ends = self.params[:: max(1, len(self.params) - 1)]
        return (ends[0]._version, ends[-1]._version) if ends else (0, 0)

    def _notice_wipe(self, now: list[Mark], stream: Stream) -> None:
        held = [i for i, count in enumerate(self.pending) if count]
        if not held or any(now[i] == self.last[i] for i in held):
            return
        if any(now[i] is not None for i in held) and not self._is_zero(held, stream):
            return
        moved = self._versions() != self.at_backward  # the user's own update used them, as in SAM
        for event in self.open:
            event.consumed = event.consumed or moved
            event.wiped += 1
            if not event.consumed and event.wiped >= event.owners and not event.in_step:
                self.lost.hit(event.tick)
                self.lost_site = event.site
        self.wiped_upto = max(event.index for event in self.open)
        self.open = []
        for i in held:
            self.pending[i] = 0

    def _is_zero(self, held: list[int], stream: Stream) -> bool:
        if self.lost.count > 40 and not stream.sampled:
            return True
        stream.quiet += 1
        try:
            grads = [local_part(g) for i in held[:4] if (g := self.params[i].grad) is not None]
            return all(not bool(g.any()) for g in grads)
        finally:
            stream.quiet -= 1

    def backward_ends(self, event: Backward) -> bool:
        """Attribute the new gradients to this backward; True when it reached any parameter here."""
        now = marks(self.params)
        before = self.before
        self.last = now
        if now == before or len(before) != len(now):
            return False
        if before.count(None) == len(before) and None not in now:
            # The common case, all wiped before and all there after, without a look at each.
            self.reached = [count + 1 for count in self.reached]
            self.pending, self.stale = [1] * len(now), [False] * len(now)
            self._adopt(event)
            return True
        after, pending, stale, reached = self.after_step, self.pending, self.stale, self.reached
        for i, mark in enumerate(now):
            old = before[i]
            if mark == old or mark is None:
                continue
            reached[i] += 1
            if old is None:
                pending[i], stale[i] = 1, False
            elif old == after[i]:
                pending[i], stale[i] = 1, True
            elif pending[i]:
                pending[i] += 1
            else:
                pending[i], stale[i] = 1, False
        self._adopt(event)
        return True

    def _adopt(self, event: Backward) -> None:
        self.at_backward = self._versions()
        self.backwards += 1
        event.owners += 1
        self.open.append(event)

    def _marks_since(self, known: list[Mark]) -> list[Mark]:
        """The marks of now; those known, where the ends of the list say that nothing has touched them."""
        ends = [known[0], known[-1]] if known else [None]
        if None not in ends and marks([self.params[0], self.params[-1]]) == ends:
            return known
        return marks(self.params)

    def consumes(self, stream: Stream, backwards: BackwardTracker) -> None:
        """A step, or a scaler's attempt at one, uses the gradients that are there."""
        now = self.last = self._marks_since(self.last)
        if now and None not in now and True not in self.stale and not stream.in_backward:
            self._close_window(backwards)  # the common case, without a look at each
            return
        have = [i for i, mark in enumerate(now) if mark is not None]
        if stream.in_backward:
            self.in_backward = True
            for i in have:
                self.reached[i] += 1
        if not have:
            self.empty_steps += 1
            if not any(p.requires_grad for p in self.params):
                self.inert_steps += 1
        elif not self.closure and not stream.in_backward:
            stale = sum(self.stale[i] for i in have)
            if stale * 2 >= len(have):
                self.stale_steps.hit(self.steps, tensors=len(have))
        self._close_window(backwards)

    def _close_window(self, backwards: BackwardTracker) -> None:
        if len(self.open) == 1 and not self.open[0].in_step and self.pending.count(1) == len(self.pending):
            self.windows[1, True] += 1  # one backward, one step
            self.open[0].consumed = True
            self.open = []
            return
        sites = {event.site for event in self.open if not event.in_step}
        count = max(self.pending, default=0)
        averaged = True
        if len(sites) == 1 and count >= 2:
            self.window_site = next(iter(sites))
            record = backwards.sites.get(self.window_site)
            averaged = record is None or record.mean is not True or abs(record.factor) * count < 1.5
            averaged = averaged or record is None or record.other_leaf > 0
        self.windows[(count if len(sites) == 1 else -1, averaged)] += 1
        for event in self.open:
            event.consumed = True
        self.open = []

    def after(self) -> None:
        """Remember the gradients as the step left them."""
        self.after_step = self.last = self._marks_since(self.last)
        self.pending = [0] * len(self.params)
        self.stale = [False] * len(self.params)


class OptimizerTracker:
    """All optimizers of a run, alive and dead."""

    def __init__(self, stream: Stream, backwards: BackwardTracker) -> None:
        self.stream, self.backwards = stream, backwards
        self.records: list[OptimizerRecord] = []
        self.by_key: dict[int, OptimizerRecord] = {}
        self.held: dict[int, weakref.ref[Any]] = {}
        self.grads_read: list[Any] = []
        self.on_step: list[Any] = []
        self._frozen: dict[int, list[tuple[Any, int]]] = {}

    def record(self, optimizer: Any, site: Site | None = None) -> OptimizerRecord:
        """The record of an optimizer, made when it is first seen."""
        record = self.by_key.get(id(optimizer))
        if record is None or record.ref() is not optimizer:
            record = OptimizerRecord(optimizer, site, len(self.records), self.stream.tick)
            self.records.append(record)
            self.by_key[id(optimizer)] = record
            self._hold(record)
        return record

    def _hold(self, record: OptimizerRecord) -> None:
        for p in record.params:
            self.held[id(p)] = weakref.ref(p)

    def is_held(self, tensor: Any) -> bool:
        """True when an optimizer, alive or dead, was given this tensor."""
        ref = self.held.get(id(tensor))
        return ref is not None and ref() is tensor

    def live(self) -> list[OptimizerRecord]:
        """Records of optimizers that still exist."""
        return [r for r in self.by_key.values() if r.alive]

    # -- events -----------------------------------------------------------------------------------

    def optimizer_built(self, optimizer: Any, site: Site | None) -> None:
        """A constructor ran."""
        self.record(optimizer, site)

    def backward_begins(self, event: Backward, tensors: Any) -> None:
        """Look at all gradients before the engine runs."""
        for record in self.by_key.values():
            if record.alive:
                record.backward_begins(self.stream)

    def backward_ends(self, event: Backward) -> None:
        """Look at all gradients after it."""
        for record in self.by_key.values():
            if record.alive:
                record.backward_ends(event)

    def scaler_steps(self, scaler: Any, optimizer: Any) -> None:
        """A scaler's attempt counts as a step even where it skips."""
        record = self.record(optimizer)
        record.attempts += 1
        record.attempting = True
        record.consumes(self.stream, self.backwards)
        record.after()

    def step_begins(self, optimizer: Any, has_closure: bool) -> None:
        """A step starts: gradients are consumed."""
        record = self.record(optimizer)
        groups = optimizer.param_groups
        if sum(len(g["params"]) for g in groups) != len(record.params):
            record.sees_groups(optimizer)
            self._hold(record)
        if record.step_site is None:
            record.step_site = user_site()
        record.in_closure, record.backwards_at_begin = has_closure, record.backwards
        if not record.attempting and not has_closure:
            record.consumes(self.stream, self.backwards)
        record.attempting = False
        if self.stream.sampled:
            frozen = [(p, p._version) for p in record.params if not p.requires_grad and p.grad is not None]
            if frozen:
                self._frozen[record.key] = frozen
        for reader in self.on_step:
            reader(record, True)

    def step_ends(self, optimizer: Any) -> None:
        """A step is over."""
        record = self.record(optimizer)
        if record.in_closure:  # its gradients came inside this step
            record.closure = record.closure or record.backwards - record.backwards_at_begin > 1
            record.consumes(self.stream, self.backwards)
        record.steps += 1
        for p, version in self._frozen.pop(record.key, ()):
            if p._version != version:
                record.frozen_changed.hit(record.steps - 1)
        record.after()
        for reader in self.on_step:
            reader(record, False)
        self.stream.advance(record.steps)
