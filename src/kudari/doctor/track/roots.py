"""Root calls: who was called, in which mode, and whether a backward came back.

A root call is the outermost call of a module that owns parameters. Its output carries a tensor hook whose
closure holds the :class:`Call`; so the call knows when a backward reaches it, and a weak reference to the
call tells whether its graph is still alive.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import torch
from torch import nn

from kudari.doctor.observe.graph import add_hook
from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import call_chain, user_site
from kudari.doctor.track.calls import Call, EvalPass, Probe, Root
from kudari.doctor.track.counting import Hits
from kudari.doctor.track.optimizers import OptimizerRecord, OptimizerTracker
from kudari.doctor.track.probes import copyable
from kudari.doctor.track.replay import Origin, replay

PROBED_CALLS = 5
MAX_PASSES = 400
MAX_OPEN_CALLS = 600


class RootTracker:
    """All models of a run by identity, and the call that is under way."""

    def __init__(self, stream: Stream, optimizers: OptimizerTracker) -> None:
        self.stream, self.optimizers = stream, optimizers
        self.depth = 0
        self.probe: Probe | None = None
        self.current: Call | None = None
        self.roots: list[Root] = []
        self.by_id: dict[int, tuple[weakref.ref[Any], Root | None]] = {}
        self.reached: list[Call] = []
        self.open_calls: deque[weakref.ref[Call]] = deque(maxlen=MAX_OPEN_CALLS)
        self.retained = Hits()
        self.retained_unfinished = 0
        self.iterator: int | None = None
        self.watchers: list[Any] = []
        # Of the last batch of token ids: shape, padding_idx of an Embedding, value that ends most rows.
        self.last_ids: tuple[tuple[int, ...], int | None, int | None] | None = None
        self.last_root: Root | None = None
        optimizers.on_step.append(self._step)

    # -- meeting models ---------------------------------------------------------------------------

    def _meet(self, module: nn.Module) -> Root | None:
        inner = getattr(module, "_orig_mod", module)
        inner = inner.module if isinstance(inner, nn.parallel.DistributedDataParallel) else inner
        known = self.by_id.get(id(inner))
        if inner is not module and known is not None and known[0]() is inner:
            root = known[1]
        else:
            root = Root(inner) if next(inner.parameters(), None) is not None else None
            if root is not None:
                self.roots.append(root)
            self.by_id[id(inner)] = (weakref.ref(inner), root)
        self.by_id[id(module)] = (weakref.ref(module), root)
        return root

    def of(self, module: nn.Module) -> Root | None:
        """The record of a model; None for modules without parameters."""
        known = self.by_id.get(id(module))
        if known is None or known[0]() is not module:
            return self._meet(module)
        return known[1]

    # -- calls ------------------------------------------------------------------------------------

    def begins(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """A module is called while no other is; returns None where it owns no parameters."""
        root = self.of(module)
        if root is None or torch._C._get_tracing_state() or torch._C._functorch.peek_interpreter_stack():
            return None
        grad = torch.is_grad_enabled()
        call = Call(root, self.stream.tick, grad, module.training)
        call.chain = (args, kwargs)
        root.calls += 1
        self.current = call
        if root.mode_layers:
            call.layers_on = any((m := ref()) is not None and m.training for ref in root.mode_layers)
        if grad:
            root.grad_calls += 1
            root.batch = None
            if root.ddp is not None:
                self._count_ddp(root, module)
            if root.probed < PROBED_CALLS:
                self._start_probe(root, module, args)
        else:
            call.site = user_site()
            self._pass_of(root, call, args, kwargs, module)
        return call

    def _start_probe(self, root: Root, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.probe = Probe(root, self.stream)
        self.probe.enters(module, args)

    def _count_ddp(self, root: Root, module: nn.Module) -> None:
        if module is root.ddp():
            root.ddp_calls += 1
        else:
            root.bare_calls.hit(self.stream.tick)
            root.bare_site = user_site()

    def ends(self, call: Call, result: Any) -> None:
        """The call returned."""
        self.current = None
        root = call.root
        (args, kwargs, *norm), call.chain = call.chain, None
        probe, self.probe = self.probe, None
        if call.grad:
            found = self._hook(call, result)
            if found:
                self.keeps_batch(root, args, kwargs)
                self.open_calls.append(weakref.ref(call))
                if root.training_site is None and call.training:
                    root.training_site = user_site()
                if not call.training:
                    root.eval_grad.hit(call.tick)
                    root.eval_grad_site = root.eval_grad_site or user_site()
            if probe is not None:
                root.probed += 1
                if probe.moments:
                    root.train_inputs.append(probe.moments)
                root.normalises_first = root.normalises_first or probe.normalised
        else:
            self._end_eval_call(root, call, result, probe)
            if norm and root.current is not None and _batches(norm[0]) != norm[1]:
                root.current.updated = True
        for watcher in self.watchers:
            watcher(call, args, kwargs, result)

    def keeps_batch(self, root: Root, args: Any, kwargs: dict[str, Any]) -> None:
        """Keep what a model was given in this step, in case it has to be run again."""
        root.batch = self.stream.tick, _detached(args), _detached(kwargs)
        self.last_root = root

    def replay(self, slopes: bool) -> Origin | None:
        """Run the models of this step once more: which operation was the first to break?"""
        for root in self.roots:
            module, batch = root.ref(), root.batch
            if module is not None and batch is not None and batch[0] == self.stream.tick and copyable(module):
                origin = replay(module, *batch[1:], slopes)
                if origin is not None:
                    return origin
        return None

    def _hook(self, call: Call, result: Any) -> int:
        count = 0
        for tensor in _tensors(result):
            if tensor.requires_grad and tensor.grad_fn is not None and count < 8:
                add_hook(tensor, _Arrival(self, call))
                count += 1
        return count

    def arrived(self, call: Call) -> None:
        """A gradient came back to the output of a call."""
        if call.reached:
            return
        call.reached = True
        if not call.training:
            call.root.eval_grad_reached += 1
        if self.stream.in_backward and len(self.reached) < 1000:
            call.reached_at = self.optimizers.backwards.total
            self.reached.append(call)

    # -- passes -----------------------------------------------------------------------------------

    def _pass_of(
        self, root: Root, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], module: nn.Module
    ) -> None:
        key = ("loader", self.iterator, call.site) if self.iterator is not None else call_chain(3)
        current = root.current
        if current is None or current.key != key or current.training != call.training:
            self.finish_pass(root)
            current = root.current = EvalPass(key, call, self.stream.tick)
        current.calls += 1
        first = next((t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)), None)
        if first is not None:
            mark = (first.data_ptr(), version_of(first), tuple(first.shape))
            current.repeated += mark == current.last_input
            current.last_input = mark
            current.rows += first.shape[0] if first.dim() else 1
        if current.calls <= 2 and len(root.passes) < 12:
            self._start_probe(root, module, args)
        if call.layers_on and not current.updated:
            norm = next((m for ref in root.moving_norms if (m := ref()) is not None and m.training), None)
            if norm is not None:
                current.reestimates = norm.momentum is None
                call.chain = (*call.chain, norm, _batches(norm))

    def _end_eval_call(self, root: Root, call: Call, result: Any, probe: Probe | None) -> None:
        current = root.current
        if current is None:
            return
        current.dropped = current.dropped or call.drops
        if len(current.outputs) < 4:
            current.outputs.update(t.data_ptr() for t in _tensors(result))
        if probe is not None and probe.moments:
            m = probe.moments
            if current.moments is None:
                current.moments = (m["mean"], m["std"], int(m["values"]))
        root.last_was_eval_pass = not call.training

    def finish_pass(self, root: Root) -> None:
        """The running pass of a model is over."""
        if root.current is not None and len(root.passes) < MAX_PASSES:
            root.current.last_input = None
            root.passes.append(root.current)
        root.current = None

    # -- steps ------------------------------------------------------------------------------------

    def _step(self, record: OptimizerRecord, begins: bool) -> None:
        if not begins:
            if record.steps % 50 == 49:
                self.scan_retained()
            return
        keep = []
        for call in self.reached:
            if call.reached_at <= record.wiped_upto:
                continue
            if self._trains(record, call.root):
                self._count_training(call)
            else:
                keep.append(call)
        self.reached = keep[-100:]

    def _trains(self, record: OptimizerRecord, root: Root) -> bool:
        if record.key in root.trained_by:
            return True
        if not root.names.keys().isdisjoint(record.ids):
            root.trained_by.add(record.key)
            return True
        return False

    def _count_training(self, call: Call) -> None:
        root = call.root
        if root.current is not None:
            self.finish_pass(root)
        root.training_calls += 1
        if root.mode_layers:
            if call.layers_on:
                root.training_on += 1
            else:
                root.training_off.hit(call.tick)
                if root.training_off.count == 1:
                    root.off_after_pass = bool(root.passes) and not root.passes[-1].training
        for ref in root.frozen_norms:
            norm = ref()
            # Where it ran without gradients it is a teacher, whose statistics follow the student's data.
            if norm is not None and norm.training and norm.momentum and id(norm) in root.executed:
                root.frozen_norm_updates.hit(call.tick)
                break

    def scan_retained(self) -> None:
        """Count the steps whose graphs are still alive."""
        tick = self.stream.tick
        ours = set(map(id, self.reached))
        alive = [
            c for ref in self.open_calls if (c := ref()) is not None and c.tick < tick and id(c) not in ours
        ]
        ticks = {c.tick for c in alive}
        if len(ticks) >= 60 or (len(ticks) >= 45 and len(self.open_calls) < MAX_OPEN_CALLS // 4):
            self.retained.hit(min(ticks), alive=len(alive), steps=len(ticks))
            self.retained_unfinished = sum(not c.reached for c in alive)

    # -- other events -----------------------------------------------------------------------------

    def iterator_started(self, loader: Any, iterator: Any, site: Any) -> None:
        """A loader was iterated."""
        self.iterator = id(iterator)

    def batch_loaded(self, iterator: Any, seconds: float) -> None:
        """A batch came from a loader."""
        self.iterator = id(iterator)

    def iterator_ended(self, iterator: Any) -> None:
        """A loader ran out; passes over it end."""
        self.iterator = None
        for root in self.roots:
            if root.current is not None:
                self.finish_pass(root)

    def dropout_drawn(self, p: float, site: Any) -> None:
        """Dropout was active."""
        if self.current is not None:
            self.current.drops = True

    def ddp_built(self, wrapper: nn.Module, module: nn.Module, site: Any) -> None:
        """A model was wrapped."""
        root = self.of(module)
        if root is not None:
            root.ddp = weakref.ref(wrapper)

    def mode_called(self, module: nn.Module, mode: bool, site: Any) -> None:
        """``train`` or ``eval`` was called on a model."""
        known = self.by_id.get(id(module))
        if known is not None and known[1] is not None and len(known[1].mode_switches) < 100:
            known[1].mode_switches.append((self.stream.tick, mode))


class _Arrival:
    """A tensor hook that tells its call; nothing else may hold the call strongly."""

    __slots__ = ("call", "tracker")

    def __init__(self, tracker: RootTracker, call: Call) -> None:
        self.tracker, self.call = tracker, call

    def __call__(self, grad: Any) -> None:
        self.tracker.arrived(self.call)


def _detached(value: Any) -> Any:
    """Arguments without the graphs they came from, so that keeping them keeps no activations."""
    if isinstance(value, torch.Tensor):
        return value.detach() if value.requires_grad else value
    if type(value) in (tuple, list):
        return type(value)(_detached(item) for item in value)
    return {k: _detached(v) for k, v in value.items()} if type(value) is dict else value


def version_of(tensor: Any) -> int:
    """Version of a tensor; inference tensors keep none."""
    return 0 if tensor.is_inference() else int(tensor._version)


def _batches(norm: Any) -> int:
    """Version of a norm's counter of batches, which moves with its statistics (theirs does not)."""
    counter = norm.num_batches_tracked
    return 0 if counter is None else version_of(counter)


def _tensors(result: Any, depth: int = 2) -> list[Any]:
    if isinstance(result, torch.Tensor):
        return [result]
    if depth and isinstance(result, (tuple, list)):
        return [t for item in result[:16] for t in _tensors(item, depth - 1)]
    if depth and isinstance(result, dict):
        return [t for item in list(result.values())[:16] for t in _tensors(item, depth - 1)]
    return []
