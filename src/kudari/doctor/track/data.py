"""What goes into models: which rows, from which loader, with which generators."""

from __future__ import annotations

import random
import weakref
from time import perf_counter
from types import CodeType
from typing import Any

import torch
from torch import nn

from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import Site
from kudari.doctor.track.calls import Call, Root
from kudari.doctor.track.probes import probe_root, token_ids
from kudari.doctor.track.roots import RootTracker
from kudari.doctor.track.rows import RowTracker

PROBE_AT_CALL = 3
MOST_ROWS = 0.7


class LoaderRecord:
    """All iterations of one loader."""

    def __init__(self, loader: Any, site: Site | None) -> None:
        self.ref, self.site = weakref.ref(loader), site
        self.epochs = 0
        self.waited = self.wall = 0.0
        self.batches = 0


class SamplerRecord:
    """All iterations of one distributed sampler."""

    def __init__(self, sampler: Any, site: Site | None) -> None:
        self.ref, self.site = weakref.ref(sampler), site
        self.shuffle = bool(sampler.shuffle)
        self.epochs: list[int] = []


class DataTracker:
    """Rows seen by every model, loaders, samplers and private generators."""

    def __init__(self, stream: Stream, roots: RootTracker) -> None:
        self.stream, self.roots = stream, roots
        self.rows = RowTracker(stream)
        self.loaders: dict[int, LoaderRecord] = {}
        self.samplers: dict[int, SamplerRecord] = {}
        self.private: dict[str, dict[str, Any]] = {}
        self.worker_loaders = 0
        self.iterators: dict[int, tuple[LoaderRecord, float]] = {}
        self.loaded: list[dict[str, Any]] = []
        self.probing = True
        self.recent_outputs: dict[int, tuple[Root, int, weakref.ref[Any]]] = {}
        roots.watchers.append(self.called)

    # -- calls ------------------------------------------------------------------------------------

    def called(self, call: Call, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """A root call returned."""
        x = next((t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)), None)
        if x is None or x.dim() == 0:
            return
        root = call.root
        if call.grad:
            self.note_feeding(call, x)
        if not call.grad and isinstance(result, torch.Tensor):
            if len(self.recent_outputs) > 50:
                self.recent_outputs.clear()
            self.recent_outputs[result.data_ptr()] = (root, call.tick, weakref.ref(result))
        if call.grad and call.training and root.calls <= 40:
            self._note_ids(root, args, kwargs)
            if self.probing and root.grad_calls == PROBE_AT_CALL and root.training_calls:
                self._probe(root, args, kwargs)
        self.rows.called(call, root, x)

    def note_feeding(self, call: Call, x: Any) -> None:
        """A training call is given ``x``, which may be what an evaluation has just made."""
        fed = self.recent_outputs.get(x.data_ptr()) if self.recent_outputs else None
        # An output that is gone may have left its address to an unrelated tensor.
        if fed is not None and fed[2]() is not None:
            if fed[1] == call.tick and fed[0].passes:
                fed[0].passes[-1].feeds_training = True
            if fed[0].current is not None:
                fed[0].current.feeds_training = True

    def _note_ids(self, root: Root, args: Any, kwargs: dict[str, Any]) -> None:
        root.kept = token_ids(args, kwargs)
        module = root.ref()
        if module is None or not root.kept:
            return
        x = next(iter(root.kept.values()))
        padding = [m.padding_idx for m in module.modules() if isinstance(m, nn.Embedding)]
        known = next((p for p in padding if p is not None), None)
        self.stream.quiet += 1
        try:
            self.roots.last_ids = (tuple(x.shape), known, tail_of(x) if known is None else None)
        finally:
            self.stream.quiet -= 1

    def _probe(self, root: Root, args: Any, kwargs: dict[str, Any]) -> None:
        module = root.ref()
        if module is not None:
            self.stream.quiet += 1
            try:
                probe_root(root, module, args, kwargs)
            finally:
                self.stream.quiet -= 1

    # -- loaders ----------------------------------------------------------------------------------

    def iterator_started(self, loader: Any, iterator: Any, site: Site | None) -> None:
        """A loader was iterated."""
        record = self.loaders.get(id(loader))
        if record is None or record.ref() is not loader:
            record = self.loaders[id(loader)] = LoaderRecord(loader, site)
            self._look_for_generators(loader, site)
        record.epochs += 1
        self.iterators[id(iterator)] = (record, perf_counter())
        if len(self.iterators) > 100:
            self.iterators.pop(next(iter(self.iterators)))

    def batch_loaded(self, iterator: Any, seconds: float) -> None:
        """A batch was waited for."""
        known = self.iterators.get(id(iterator))
        if known is not None and known[0].epochs > 1:
            known[0].waited += seconds
            known[0].batches += 1

    def iterator_ended(self, iterator: Any) -> None:
        """A loader ran out."""
        known = self.iterators.pop(id(iterator), None)
        if known is not None and known[0].epochs > 1:
            known[0].wall += perf_counter() - known[1]

    def sampler_iterated(self, sampler: Any, site: Site | None) -> None:
        """A distributed sampler was iterated."""
        record = self.samplers.get(id(sampler))
        if record is None or record.ref() is not sampler:
            record = self.samplers[id(sampler)] = SamplerRecord(sampler, site)
        record.epochs.append(int(sampler.epoch))

    def _look_for_generators(self, loader: Any, site: Site | None) -> None:
        if loader.num_workers < 2 or loader.worker_init_fn is not None:
            return
        self.worker_loaders += 1
        for dataset in _nested(loader.dataset):
            for name, value in vars(dataset).items():
                if _is_generator(value) and name in _names_used(type(dataset), "__getitem__"):
                    self.private[f"{type(dataset).__name__}.{name}"] = {
                        "kind": type(value).__name__,
                        "workers": loader.num_workers,
                        "site": site,
                        "getitem": Site(type(dataset).__getitem__.__code__, 0),
                    }

    # -- checkpoints ------------------------------------------------------------------------------

    def state_loads(self, module: nn.Module, state: Any, site: Site | None) -> None:
        """A state dict is about to be loaded."""
        if not hasattr(state, "items"):
            return
        own = module.state_dict()
        given = {k: v for k, v in state.items() if isinstance(v, torch.Tensor)}
        own_total = sum(v.numel() for v in own.values())
        given_total = sum(v.numel() for v in given.values())
        if not own_total or not given_total:
            return
        matched = [k for k, v in given.items() if k in own and own[k].shape == v.shape]
        shared = sum(own[k].numel() for k in matched)
        same = [k for k in matched if own[k].data_ptr() == given[k].data_ptr() and own[k].numel()]
        root = self.roots.of(module)
        if root is not None and shared:
            root.loaded = True
        self.loaded.append(
            {
                "site": site,
                "model": id(module),
                "own": own_total,
                "given": given_total,
                "matched": shared,
                "same_storage": len(same) == len(matched) > 0 and shared >= 0.99 * own_total,
                "trained": bool(root and root.training_calls),
                "missing": [k for k in own if k not in given][:3],
                "unexpected": [k for k in given if k not in own][:3],
            }
        )


def tail_of(rows: Any) -> int | None:
    """The value that ends most rows at least twice in a row, as padding does; None where there is none."""
    if rows.dim() != 2 or rows.shape[1] < 3:
        return None
    value = int(rows[:, -1].mode().values)
    twice = (rows[:, -2:] == value).all(1)
    return value if float(twice.float().mean()) >= MOST_ROWS else None


def _nested(dataset: Any, depth: int = 4) -> list[Any]:
    found, queue = [], [(dataset, 0)]
    while queue:
        item, level = queue.pop()
        if not hasattr(item, "__dict__") or isinstance(item, (torch.Tensor, nn.Module)):
            continue
        found.append(item)
        if level < depth:
            children = [vars(item).get(name) for name in ("dataset", "base", "inner")]
            children += list(vars(item).get("datasets", ()) or ())
            queue += [(child, level + 1) for child in children if child is not None]
    return found


def _is_generator(value: Any) -> bool:
    if isinstance(value, (torch.Generator, random.Random)):
        return True
    return type(value).__module__.startswith("numpy.random") and type(value).__name__ in (
        "Generator",
        "RandomState",
    )


def _names_used(cls: type, method: str, depth: int = 3) -> set[str]:
    """Attribute names that a method, or methods of the same class it calls, mention."""
    function = getattr(cls, method, None)
    code = getattr(function, "__code__", None)
    names: set[str] = set()
    queue: list[tuple[CodeType, int]] = [(code, 0)] if code else []
    while queue:
        code, level = queue.pop()
        new = set(code.co_names) - names
        names |= new
        queue += [(c, level) for c in code.co_consts if isinstance(c, CodeType)]
        if level < depth:
            queue += [
                (inner, level + 1)
                for n in new
                if (inner := getattr(getattr(cls, n, None), "__code__", None)) is not None
            ]
    return names
