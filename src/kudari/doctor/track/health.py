"""Sampled numbers of a run: update sizes, gradient norms, activations, and the first non-finite value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from kudari.doctor.observe.autopsy import autopsy
from kudari.doctor.observe.graph import VIEWS, Graph, local_part, read_value, saved
from kudari.doctor.observe.stream import Stream
from kudari.doctor.track.backwards import Backward, BackwardSite
from kudari.doctor.track.counting import Hits, Series
from kudari.doctor.track.optimizers import OptimizerRecord
from kudari.doctor.track.replay import Origin

MAX_MATRICES = 12
MAX_ELEMENTS = 4_000_000
SMALLEST_NORM = 1e-3
WEIGHTED_NODES = ("AddmmBackward0", "MmBackward0", "ConvolutionBackward0")
SATURATED_TANH, SATURATED_SIGMOID = 0.99, (0.01, 0.99)


class UnitRecord:
    """A ReLU over many batches: which channels were ever positive."""

    def __init__(self, channels: int) -> None:
        self.alive = torch.zeros(channels, dtype=torch.bool)
        self.batches = self.samples = 0


class HealthTracker:
    """Statistics, all of them taken at sampled steps."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.ratios: dict[int, Series] = {}
        self.norms: dict[int, Series] = {}
        self.depth_ratio: dict[int, list[float]] = {}
        self.depth_names: dict[int, tuple[int, int]] = {}
        self.order: list[int] = []
        self.units: dict[tuple[int, int], UnitRecord] = {}
        self.saturated: dict[tuple[str, int], list[float]] = {}
        self.bad_gradient: dict[int, Hits] = {}
        self.bad_loss: dict[str, Any] | None = None
        self.bad_slope: Origin | None = None
        self.replay: Callable[[bool], Origin | None] = lambda slopes: None
        self.start_norm: dict[int, list[tuple[Any, float, Any]]] = {}

    # -- steps ------------------------------------------------------------------------------------

    def step(self, record: OptimizerRecord, begins: bool) -> None:
        """Before and after every step of an optimizer."""
        if record.closure:
            return
        self.stream.quiet += 1
        try:
            if begins and self.stream.sampled:
                self._keep_weights(record)
            if begins != record.in_closure:  # a closure brings the gradients while the step runs
                self._check_finite(record)
                if self.stream.sampled:
                    self._measure_gradients(record)
            if not begins:
                self._measure_update(record)
        finally:
            self.stream.quiet -= 1

    def glance(self, record: OptimizerRecord) -> None:
        """Look at one gradient before a step of which nothing else is measured."""
        self.stream.quiet += 1
        try:
            self._check_finite(record)
        finally:
            self.stream.quiet -= 1

    def _check_finite(self, record: OptimizerRecord) -> None:
        hits = self.bad_gradient.get(record.key)
        if hits is not None and hits.count > 3:
            return
        for p in record.params[:2] if self.stream.sampled else record.glanced_at:
            grad = p.grad
            if grad is not None and not grad.is_sparse:
                if not math.isfinite(read_value(local_part(grad).sum().real)):
                    self._note_gradient(record)
                break

    def _note_gradient(self, record: OptimizerRecord) -> None:
        if not self.bad_gradient and self.bad_loss is None and not record.in_closure:
            self.bad_slope = self._replay(slopes=True)
        self.bad_gradient.setdefault(record.key, Hits()).hit(_number(record))

    def _replay(self, slopes: bool) -> Origin | None:
        try:
            return self.replay(slopes)
        except Exception:
            return None  # a copy that cannot run says nothing

    def _measure_gradients(self, record: OptimizerRecord) -> None:
        held = [(p, local_part(g)) for p in record.params if (g := p.grad) is not None and not g.is_sparse]
        if not held or len({g.device for _, g in held}) > 1:
            return
        norms = torch.stack([n.float() for n in torch._foreach_norm([g for _, g in held])])
        values: list[float] = norms.tolist()
        total = math.sqrt(sum(v * v for v in values)) if all(map(math.isfinite, values)) else math.nan
        self.norms.setdefault(record.key, Series()).add(_number(record), total)
        rms = {
            id(p): v / math.sqrt(p.numel()) for (p, _), v in zip(held, values, strict=True) if p.dim() >= 2
        }
        ordered = [i for i in reversed(self.order) if i in rms]
        if len(ordered) >= 4 and rms[ordered[-1]] > 0:
            self.depth_ratio.setdefault(record.key, []).append(rms[ordered[0]] / rms[ordered[-1]])
            self.depth_names[record.key] = (ordered[0], ordered[-1])

    def _keep_weights(self, record: OptimizerRecord) -> None:
        kept, total = [], 0
        for p in record.params:
            grad = p.grad
            comes = p.requires_grad if record.in_closure else grad is not None
            sparse = grad is not None and grad.is_sparse
            if p.dim() < 2 or not comes or sparse or total + p.numel() > MAX_ELEMENTS:
                continue
            total += p.numel()
            kept.append(p)
            if len(kept) == MAX_MATRICES:
                break
        if kept:
            copies = [local_part(p.detach()).clone() for p in kept]
            self.start_norm[record.key] = [(p, 0.0, c) for p, c in zip(kept, copies, strict=True)]

    def _measure_update(self, record: OptimizerRecord) -> None:
        kept = self.start_norm.pop(record.key, None)
        if not kept:
            return
        before = [c for _, _, c in kept]
        sizes = torch.stack([n.float() for n in torch._foreach_norm(before)]).tolist()
        moves = torch._foreach_sub([local_part(p.detach()) for p, _, _ in kept], before)
        changes = torch.stack([n.float() for n in torch._foreach_norm(moves)]).tolist()
        ratios = sorted(c / s for c, s in zip(changes, sizes, strict=True) if s > SMALLEST_NORM)
        if ratios:
            self.ratios.setdefault(record.key, Series()).add(record.steps - 1, ratios[len(ratios) // 2])

    # -- graphs -----------------------------------------------------------------------------------

    def read_graph(self, graph: Graph, event: Backward) -> None:
        """Activations and the depth of weight matrices, from the saved tensors of a loss's graph."""
        order = [id(leaf) for leaf in graph.leaves if leaf.dim() >= 2]
        if len(order) >= len(self.order):
            self.order = order
        relus = 0
        for node in graph.nodes[:4000]:
            name = type(node).__name__
            if name == "ReluBackward0":
                self._relu(node, relus)
                relus += 1
            elif name in WEIGHTED_NODES:
                self._saturation(node)

    def _relu(self, node: Any, index: int) -> None:
        result = saved(node, "result")
        if result is None or result.dim() < 2 or result.numel() > 50_000_000:
            return
        channels = result.shape[1] if result.dim() in (2, 4) else result.shape[-1]
        axis = 1 if result.dim() in (2, 4) else result.dim() - 1
        record = self.units.get((index, channels))
        if record is None:
            if len(self.units) > 100:
                return
            record = self.units[index, channels] = UnitRecord(channels)
        axes = [d for d in range(result.dim()) if d != axis]
        record.alive |= (result.detach().amax(axes) > 0).cpu()
        record.batches += 1
        record.samples += result.shape[0]

    def _saturation(self, node: Any) -> None:
        parents = [p for p, _ in node.next_functions]
        source = parents[1] if type(node).__name__ == "AddmmBackward0" and len(parents) > 1 else parents[0]
        for _ in range(6):
            if source is None or type(source).__name__ not in VIEWS:
                break
            source = source.next_functions[0][0]
        name = type(source).__name__
        if name not in ("TanhBackward0", "SigmoidBackward0"):
            return
        result = saved(source, "result")
        if result is None or not result.numel():
            return
        d = result.detach()
        if name == "TanhBackward0":
            share = float((d.abs() > SATURATED_TANH).float().mean())
        else:
            share = float(((d < SATURATED_SIGMOID[0]) | (d > SATURATED_SIGMOID[1])).float().mean())
        shares = self.saturated.setdefault((name[:-9].lower(), int(d.shape[-1])), [])
        if len(shares) < 2000:
            shares.append(share)

    # -- the first non-finite loss ----------------------------------------------------------------

    def nonfinite_loss(self, event: Backward, record: BackwardSite, loss: Any) -> None:
        """Read the graph of the first loss that is not finite, before the engine frees it."""
        if self.bad_loss is not None:
            return
        self.stream.quiet += 1
        try:
            self.bad_loss = {
                "tick": self.stream.tick, "site": record.site, "value": event.value, "backward": record,
                **autopsy(loss),
            }  # fmt: skip
            if self.bad_loss["cause"] != "weights":
                self.bad_loss["origin"] = self._replay(slopes=False)
        finally:
            self.stream.quiet -= 1


def _number(record: OptimizerRecord) -> int:
    """Number of the step whose gradients are there, from 0."""
    return record.steps - record.in_closure
