"""Loss functions, metrics, and the shapes and ranges they are given."""

from __future__ import annotations

import math
from typing import Any

import torch

from kudari.doctor.observe.graph import Graph, origin, saved
from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import Site
from kudari.doctor.track.backwards import Backward
from kudari.doctor.track.calls import Root
from kudari.doctor.track.counting import Hits
from kudari.doctor.track.probes import token_ids
from kudari.doctor.track.roots import RootTracker

LOOKED_EVERY = 25
MAX_SITES = 200
MIN_LENGTH = 4
SAME_IDS = 0.9
# From the scores back to the layer: softmax, scale, matrix product, transposed weight.
LAYER_DEPTH = 5
SOFTMAXES = ("SoftmaxBackward0", "LogSoftmaxBackward0")
PAIRWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
# Hand-written broadcasts: what feeds the reduction.
FED_BY = ("PowBackward0", "AbsBackward0", "MulBackward0")


class LossSite:
    """All calls of one loss function from one point of the user's code."""

    def __init__(self, name: str, site: Site | None) -> None:
        self.name, self.site = name, site
        self.calls = self.grad_calls = self.looked = 0
        self.root: Root | None = None
        self.softmax, self.one_class, self.sigmoid = Hits(), Hits(), Hits()
        self.unnormalised, self.scores_below_zero = Hits(), 0
        self.broadcast, self.label_range, self.padding = Hits(), Hits(), Hits()
        self.both_grad = 0
        self.batches: list[dict[int, int]] = []
        self.classes = 0
        self.first_loss: tuple[int, float] | None = None
        self.reduction = "mean"
        self.weighted = False
        self.smoothing = 0.0
        self.class_layer = False
        self.target_sum = self.target_square = 0.0
        self.target_count = 0
        self.targets_drawn = 0
        self.soft_targets = False


class LossTracker:
    """All loss functions of a run, and the metrics computed beside them."""

    def __init__(self, stream: Stream, roots: RootTracker) -> None:
        self.stream, self.roots = stream, roots
        self.sites: dict[tuple[str, Site | None], LossSite] = {}
        self.by_hand: dict[Site | None, Hits] = {}
        self.one_class: dict[Site | None, Hits] = {}
        self.compared_pairs: dict[Site | None, Hits] = {}
        self.one_column: dict[Site | None, Hits] = {}
        self.wide_columns: set[Site | None] = set()
        self.reads: dict[Site | None, Hits] = {}
        self.read_total = 0
        self.dropout_in_eval: dict[Site | None, Hits] = {}
        self.evaluations: list[list[Any]] = []

    # -- the loss functions -----------------------------------------------------------------------

    def loss_called(
        self, name: str, site: Site | None, x: Any, y: Any, args: Any, kwargs: dict[str, Any], value: Any
    ) -> None:
        """One call of a loss function, after it returned (``value`` is None when it raised)."""
        record = self.sites.get((name, site))
        if record is None:
            if len(self.sites) >= MAX_SITES:
                return
            record = self.sites[name, site] = LossSite(name, site)
        record.calls += 1
        grad = torch.is_grad_enabled() and x.requires_grad
        record.grad_calls += grad
        crashed = value is None
        look = record.calls <= self.stream.first or self.stream.sampled or record.calls % LOOKED_EVERY == 0
        if grad and not look and not crashed:
            return
        if not grad and not crashed and not torch.is_grad_enabled():
            self._note_evaluation(value)
        if not isinstance(y, torch.Tensor) or not (grad or crashed):
            return
        self.stream.quiet += 1
        try:
            record.looked += 1
            record.root = record.root or self.roots.last_root
            record.reduction = kwargs.get("reduction", "mean")
            record.smoothing = float(kwargs.get("label_smoothing") or 0.0)
            record.weighted = record.weighted or any(
                kwargs.get(k) is not None for k in ("weight", "pos_weight")
            )
            _LOOKS[name](self, record, x, y, args, kwargs)
            if value is not None and value.numel() == 1 and record.first_loss is None:
                record.first_loss = (self.stream.tick, float(value.detach()))
        finally:
            self.stream.quiet -= 1

    def _note_evaluation(self, value: Any) -> None:
        if value.numel() != 1 or value.device.type != "cpu" or len(self.evaluations) > 5000:
            return
        self.stream.quiet += 1
        number = float(value.detach())
        self.stream.quiet -= 1
        if not self.evaluations or self.evaluations[-1][0] != self.stream.tick:
            self.evaluations.append([self.stream.tick, 0.0, 0])
        self.evaluations[-1][1] += number
        self.evaluations[-1][2] += 1

    def _look_cross_entropy(self, r: LossSite, x: Any, y: Any, args: Any, kwargs: dict[str, Any]) -> None:
        tick = self.stream.tick
        dim = 1 if x.dim() > 1 else 0
        r.classes = x.shape[dim]
        if y.is_floating_point():
            r.soft_targets = True
            return
        node = origin(x)
        if type(node).__name__ == "SoftmaxBackward0":
            d = x.detach()
            rows = d.sum(dim)
            if bool(((d >= 0) & (d <= 1)).all()) and bool(((rows - 1).abs() < 1e-3).all()):
                r.softmax.hit(tick, classes=r.classes, floor=round(_floor(r.classes), 4))
        self._look_one_class(r, node, x)
        self._look_labels(r, x, y, kwargs.get("ignore_index", args[2] if len(args) > 2 else -100))

    def _look_nll(self, r: LossSite, x: Any, y: Any, args: Any, kwargs: dict[str, Any]) -> None:
        tick = self.stream.tick
        dim = 1 if x.dim() > 1 else 0
        r.classes = x.shape[dim]
        node, d = origin(x), x.detach().float()
        self._look_one_class(r, node, x)
        off = float((d.logsumexp(dim)).abs().max())
        largest = float(d.max())
        if largest > 1e-4 or off > 1e-2:
            r.unnormalised.hit(tick, largest=round(largest, 4), logsumexp_off=round(off, 4))
            r.scores_below_zero += largest <= 1e-4
        self._look_labels(r, x, y, kwargs.get("ignore_index", args[2] if len(args) > 2 else -100))

    def _look_labels(self, r: LossSite, x: Any, y: Any, ignore_index: Any) -> None:
        tick = self.stream.tick
        if y.device.type != "cpu" and not self.stream.sampled:
            return
        labels = y.detach().reshape(-1)
        kept = labels[labels != ignore_index] if isinstance(ignore_index, int) else labels
        if kept.numel() == 0:
            return
        low, high = int(kept.min()), int(kept.max())
        if low < 0 or high >= r.classes:
            r.label_range.hit(tick, smallest=low, largest=high, classes=r.classes)
            return
        r.class_layer = r.class_layer or ends_in_layer(x, r.classes)
        if len(r.batches) < 400:
            values, counts = kept.unique(return_counts=True)
            r.batches.append(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        self._look_padding(r, y, ignore_index)
        self._look_shift(r, x, y)

    def _look_padding(self, r: LossSite, y: Any, ignore_index: Any) -> None:
        ids = self.roots.last_ids
        if ids is None:
            return
        shape, padding, tail_value = ids
        rows = y.detach()
        if rows.dim() == 1 and rows.shape[0] == shape[0] * shape[1]:
            rows = rows.reshape(shape)
        if rows.dim() != 2 or rows.shape[1] < 3:
            return
        padding = tail_value if padding is None else padding
        if padding is None or ignore_index == padding:
            return
        pad = rows == padding
        share = float(pad.float().mean())
        if share < 0.3 or share > 0.999:
            return
        tail = pad.flip(1).cumprod(1).flip(1).bool()
        if float((tail & pad).sum()) >= 0.95 * float(pad.sum()):
            r.padding.hit(self.stream.tick, share=round(share, 3), value=padding)

    def _look_shift(self, r: LossSite, x: Any, y: Any) -> None:
        # Inside forward the tokens are those of the call under way, else those of the last call.
        call = self.roots.current
        root = call.root if call is not None else self.roots.last_root
        if root is None:
            return
        tokens = token_ids(*call.chain[:2]) if call is not None and call.chain else root.kept
        for name, ids in tokens.items():
            if is_next_token(ids, y.detach()):
                root.shifted_targets.hit(self.stream.tick)
                root.shifted_input = name
                return

    def _look_one_class(self, r: LossSite, node: Any, x: Any) -> None:
        if type(node).__name__ in SOFTMAXES:
            dim, result = saved(node, "dim"), saved(node, "result")
            if isinstance(dim, int) and result is not None:
                dim = dim - (1 << 64) if dim >= 1 << 63 else dim
                if result.shape[dim] == 1 and result.numel() > 1:
                    r.one_class.hit(self.stream.tick)
        elif r.name == "cross_entropy" and x.dim() > 1 and x.shape[1] == 1:
            r.one_class.hit(self.stream.tick)

    def _look_bce_logits(self, r: LossSite, x: Any, y: Any, args: Any, kwargs: dict[str, Any]) -> None:
        node = origin(x)
        if type(node).__name__ == "SigmoidBackward0":
            r.sigmoid.hit(self.stream.tick)
        self._look_one_class(r, node, x)
        low, high = float(y.detach().min()), float(y.detach().max())
        if low < 0 or high > 1:
            r.label_range.hit(self.stream.tick, smallest=low, largest=high)

    def _look_bce(self, r: LossSite, x: Any, y: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self._look_one_class(r, origin(x), x)
        low, high = float(y.detach().min()), float(y.detach().max())
        if low < 0 or high > 1:
            r.label_range.hit(self.stream.tick, smallest=low, largest=high)

    def _look_pairwise(self, r: LossSite, x: Any, y: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self._look_one_class(r, origin(x), x)
        d = y.detach().float()
        if d.numel() and d.dim() <= 2:
            r.target_sum += float(d.sum())
            r.target_square += float((d * d).sum())
            r.target_count += d.numel()
        if x.shape == y.shape or abs(x.dim() - y.dim()) != 1 or x.numel() <= 1 or y.numel() <= 1:
            return
        if y.requires_grad and x.requires_grad:
            return
        try:
            shape = torch.broadcast_shapes(x.shape, y.shape)  # type: ignore[no-untyped-call]
        except RuntimeError:
            return
        if shape.numel() > max(x.numel(), y.numel()):
            r.broadcast.hit(
                self.stream.tick,
                left=list(x.shape),
                right=list(y.shape),
                pairs=shape.numel(),
                instead=x.numel(),
            )

    # -- the graph of a sampled backward ----------------------------------------------------------

    def read_graph(self, graph: Graph, event: Backward) -> None:
        """Find losses written by hand that reduce all pairs."""
        for node in graph.nodes[:60]:
            name = type(node).__name__
            if name not in ("MeanBackward0", "SumBackward0"):
                continue
            sizes = saved(node, "self_sym_sizes")
            if not sizes or len(sizes) != 2 or sizes[0] != sizes[1] or sizes[0] < 4:
                continue
            rows = int(sizes[0])
            parent = node.next_functions[0][0]
            if type(parent).__name__ in FED_BY and self._pairs_by_hand(parent, rows):
                self.by_hand.setdefault(event.site, Hits()).hit(
                    self.stream.tick, rows=rows, pairs=rows * rows
                )

    @staticmethod
    def _pairs_by_hand(node: Any, rows: int) -> bool:
        for _ in range(2):
            if type(node).__name__ in (*FED_BY, "SubBackward0", "RsubBackward1"):
                parents = [p for p, _ in node.next_functions if p is not None]
                if type(node).__name__ in ("SubBackward0", "RsubBackward1"):
                    # One side carries a gradient: the model's (N, 1); both sides would be a pairwise loss.
                    return len(parents) == 1 and _columns(parents[0]) == 1
                if not parents:
                    return False
                node = parents[0]
        return type(node).__name__ in ("SubBackward0", "RsubBackward1") and (
            sum(p is not None for p, _ in node.next_functions) == 1
            and _columns(next(p for p, _ in node.next_functions if p is not None)) == 1
        )

    # -- metrics ----------------------------------------------------------------------------------

    def compared(self, a: Any, b: Any, site: Site | None) -> None:
        """Two tensors are compared element by element."""
        if {a.dim(), b.dim()} != {1, 2} or a.requires_grad or b.requires_grad or site is None:
            return
        column, row = (a, b) if a.dim() == 2 else (b, a)
        if column.shape[1] != 1 or column.shape[0] != row.shape[0] or row.shape[0] < 2:
            return
        if column.data_ptr() != row.data_ptr():
            self.compared_pairs.setdefault(site, Hits()).hit(self.stream.tick, rows=row.shape[0])

    def reduced(self, x: Any, dim: Any, site: Site | None) -> None:
        """``argmax`` or ``max`` over a dimension."""
        if not isinstance(dim, int) or x.dim() < 2 or site is None or dim not in (-1, x.dim() - 1):
            return
        if x.shape[-1] != 1:
            self.wide_columns.add(site)
        elif x.shape[0] > 1 and x.is_floating_point():
            self.one_column.setdefault(site, Hits()).hit(self.stream.tick, rows=x.shape[0])

    def read_to_host(self, site: Site | None) -> None:
        """A value was brought to the host by user code."""
        if site is not None and not self.stream.in_backward:
            self.reads.setdefault(site, Hits()).hit(self.stream.tick)

    def dropout_drawn(self, p: float, site: Site | None) -> None:
        """Dropout was active; notice it inside a model in eval mode without gradients."""
        call = self.roots.current
        if call is None or call.training or torch.is_grad_enabled():
            return
        current = call.root.current
        if current is not None and current.repeated:
            return
        self.dropout_in_eval.setdefault(site, Hits()).hit(self.stream.tick, p=p, model=call.root.key)


def is_next_token(ids: Any, targets: Any) -> bool:
    """True where targets are the ids shifted by one, with or without the position that has no successor."""
    rows, length = ids.shape
    if length < MIN_LENGTH or targets.numel() not in (rows * length, rows * (length - 1)):
        return False
    ahead = targets.reshape(rows, -1)[:, : length - 1]
    return bool((ahead == ids[:, 1:]).float().mean() >= SAME_IDS)


def ends_in_layer(scores: Any, classes: int) -> bool:
    """True where scores come from a layer with one output per class, not from pairs of embeddings."""
    level = [origin(scores)]
    for _ in range(LAYER_DEPTH):
        level = [p for node in level if node is not None for p, _ in node.next_functions]
        if any(classes in v.shape for node in level if (v := getattr(node, "variable", None)) is not None):
            return True
    return False


def _columns(node: Any) -> int | None:
    """Width of what a node of a graph computed, where its kind says so."""
    name = type(node).__name__
    if name in ("AddmmBackward0",):
        sizes = saved(node, "mat2_sym_sizes")
        return int(sizes[1]) if sizes else None
    if name in ("MmBackward0",):
        sizes = saved(node, "mat2_sym_sizes")
        return int(sizes[1]) if sizes else None
    result = saved(node, "result")
    if result is not None and hasattr(result, "dim") and result.dim() == 2:
        return int(result.shape[1])
    return None


def _floor(classes: int) -> float:
    return math.log(math.e + classes - 1) - 1


_LOOKS: dict[str, Any] = {
    "cross_entropy": LossTracker._look_cross_entropy,
    "nll_loss": LossTracker._look_nll,
    "binary_cross_entropy_with_logits": LossTracker._look_bce_logits,
    "binary_cross_entropy": LossTracker._look_bce,
    **dict.fromkeys(PAIRWISE, LossTracker._look_pairwise),
}
