"""Backwards: from where, of what, and what their graph looked like."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch

from kudari.doctor.observe.graph import local_part, loss_tail, read_value, walk
from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import Site
from kudari.doctor.track.counting import Hits, Series

MAX_SITES = 200
JUMP_FACTOR = 5.0


class Backward:
    """One call of backward. Holds no tensor."""

    __slots__ = (
        "__weakref__",
        "consumed",
        "factor",
        "in_step",
        "index",
        "inputs",
        "mean",
        "owners",
        "sampled",
        "site",
        "tick",
        "value",
        "wiped",
    )  # fmt: skip

    def __init__(self, tensors: Any, site: Site | None, tick: int, in_step: bool, inputs: Any) -> None:
        self.site, self.tick, self.in_step = site, tick, in_step
        self.inputs = inputs is not None
        self.owners = 0
        self.wiped = 0
        self.consumed = False
        self.sampled = False
        self.value: float | None = None
        self.mean: bool | None = None
        self.factor = 1.0
        self.index = 0


class BackwardSite:
    """All backwards from one point of the user's code."""

    def __init__(self, site: Site | None) -> None:
        self.site = site
        self.count = 0
        self.leaf = Hits()
        self.lost = Hits()
        self.other_leaf = 0
        self.looked = 0
        self.mean: bool | None = None
        self.factor = 1.0
        self.losses = Series()
        self.nonfinite = Hits()
        self.recent: deque[float] = deque(maxlen=20)


class BackwardTracker:
    """Keeps the sites of backward, the loss curve of each, and offers sampled graphs to others.

    Attributes:
        readers: called with ``(graph, backward)`` at sampled steps, before the engine runs.
        known_leaf: tells parameters of models and optimizers from other leaves.
    """

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.sites: dict[Site | None, BackwardSite] = {}
        self.total = 0
        self.sampled_steps = 0
        self._last_sampled = -1
        self.readers: list[Any] = []
        self.known_leaf: Any = lambda tensor: isinstance(tensor, torch.nn.Parameter)
        self.on_nonfinite: Any = None
        self.loss_scale: Any = lambda: 1.0

    def backward_begins(self, event: Backward, tensors: Any) -> None:
        """Read the loss, and at sampled steps its graph."""
        record = self.sites.get(event.site)
        if record is None:
            if len(self.sites) >= MAX_SITES:
                return
            record = self.sites[event.site] = BackwardSite(event.site)
        record.count += 1
        self.total += 1
        event.index = self.total
        if self.stream.sampled and self.stream.tick != self._last_sampled:
            self._last_sampled = self.stream.tick
            self.sampled_steps += 1
        loss = tensors if isinstance(tensors, torch.Tensor) else None
        if loss is None:
            tensors = list(tensors)
            loss = tensors[0] if len(tensors) == 1 else None
        if loss is None:
            return
        if loss.grad_fn is None:
            record.leaf.hit(self.stream.tick)
            return
        jumped = self._read_value(event, record, loss)
        event.sampled = self.stream.sampled or jumped or record.count <= 5
        if event.sampled:
            self._read_graph(event, record, loss)

    def _read_value(self, event: Backward, record: BackwardSite, loss: Any) -> bool:
        on_host = loss.device.type == "cpu"
        if loss.numel() != 1 or not (on_host or self.stream.sampled):
            return False
        event.value = value = float(read_value(local_part(loss)))
        record.losses.add(self.stream.tick, value)
        if not math.isfinite(value):
            record.nonfinite.hit(self.stream.tick, value=value)
            if self.on_nonfinite is not None:
                self.on_nonfinite(event, record, loss)
            return False
        recent = record.recent
        last = recent[-1] if recent else value
        recent.append(value)
        return len(recent) == 20 and value > JUMP_FACTOR * abs(last) + 1

    def _read_graph(self, event: Backward, record: BackwardSite, loss: Any) -> None:
        self.stream.quiet += 1
        try:
            graph = walk(loss.grad_fn)
            event.mean, event.factor = loss_tail(loss.grad_fn)
            event.factor /= self.loss_scale()
            record.looked += 1
            record.mean, record.factor = event.mean, event.factor
            if any(not self.known_leaf(leaf) for leaf in graph.leaves):
                record.other_leaf += 1
            for reader in self.readers:
                reader(graph, event)
        finally:
            self.stream.quiet -= 1
