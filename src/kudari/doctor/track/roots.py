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

from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import Site, call_chain, is_user, user_site
from kudari.doctor.track.counting import Hits
from kudari.doctor.track.optimizers import OptimizerRecord, OptimizerTracker

DROPOUTS = (nn.modules.dropout._DropoutNd,)
NORMS = (nn.modules.batchnorm._NormBase,)
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase)
PROBED_CALLS = 5
MAX_PASSES = 400
MAX_OPEN_CALLS = 600


class Call:
    """One root call. Holds no tensor, so it may outlive its graph."""

    __slots__ = (
        "__weakref__",
        "chain",
        "drops",
        "grad",
        "layers_on",
        "reached",
        "reached_at",
        "root",
        "site",
        "tick",
        "training",
    )  # fmt: skip

    def __init__(self, root: Root, tick: int, grad: bool, training: bool) -> None:
        self.root, self.tick, self.grad, self.training = root, tick, grad, training
        self.reached = False
        self.reached_at = 0
        self.drops = False
        self.layers_on = True
        self.site: Site | None = None
        self.chain: Any = None


class EvalPass:
    """Consecutive calls of one root that no backward reaches, over one loader iterator or call chain."""

    def __init__(self, key: Any, call: Call, tick: int) -> None:
        self.key, self.site, self.tick = key, call.site, tick
        self.chain: tuple[Site, ...] = call_chain(4)
        self.training = call.training
        self.calls = self.rows = self.repeated = 0
        self.dropped = self.updated = False
        self.reestimates = False
        self.feeds_training = False
        self.moments: tuple[float, float, int] | None = None
        self.rows_hashed = self.rows_seen = 0
        self.row_keys: set[int] = set()
        self.last_input: Any = None
        self.outputs: set[int] = set()


class Root:
    """What is known of one model."""

    def __init__(self, module: nn.Module) -> None:
        self.ref = weakref.ref(module)
        self.key = id(module)
        self.kind = type(module).__name__
        inner = list(module.modules())
        self.names = {id(p): (name, weakref.ref(p)) for name, p in module.named_parameters()}
        self.shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
        self.children = {name: {id(p) for p in child.parameters()} for name, child in module.named_children()}
        self.owner = {id(p): id(m) for m in inner for p in m._parameters.values() if p is not None}
        self.layer_names = {id(m): name for name, m in module.named_modules()}
        self.drops = [m for m in inner if isinstance(m, DROPOUTS) and m.p > 0]
        self.norms = [m for m in inner if isinstance(m, NORMS) and getattr(m, "track_running_stats", False)]
        self.mode_layers = [weakref.ref(m) for m in (*self.drops, *self.norms)]
        self.moving_norms = [weakref.ref(m) for m in self.norms]
        self.frozen_norms = [
            weakref.ref(m)
            for m in self.norms
            if m.affine and m.weight is not None and not m.weight.requires_grad
        ]
        self.frozen_everywhere = bool(self.norms) and len(self.frozen_norms) == len(self.norms)
        self.has_drops = bool(self.drops)
        self.norm_layers = len(self.norms) + sum(
            isinstance(m, (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)) for m in inner
        )
        self.drops, self.norms = [], []
        self.calls = self.grad_calls = self.training_calls = 0
        self.eval_grad = Hits()
        self.eval_grad_reached = 0
        self.eval_grad_site: Site | None = None
        self.training_off = Hits()
        self.training_on = 0
        self.off_after_pass = False
        self.off_site: Site | None = None
        self.training_site: Site | None = None
        init = getattr(type(module).__init__, "__code__", None)
        self.init_site = Site(init, 0) if init is not None and is_user(init) else None
        self.last_was_eval_pass = False
        self.passes: list[EvalPass] = []
        self.current: EvalPass | None = None
        self.executed: set[int] = set()
        self.probed = 0
        self.train_inputs: list[dict[str, float]] = []
        self.normalises_first = False
        self.loaded = False
        self.frozen_norm_updates = Hits()
        self.trained_by: set[int] = set()
        self.ddp: Any = None
        self.ddp_calls = 0
        self.bare_calls = Hits()
        self.bare_site: Site | None = None
        self.kept: Any = None
        self.mixing: dict[str, float] | None = None
        self.mixing_why = "the model was not probed"
        self.leak: dict[str, float] | None = None
        self.leak_why = "no sequence of token ids was seen"
        self.shifted_targets = Hits()
        self.hung: dict[str, Any] = {}
        self.mode_switches: list[tuple[int, bool]] = []


class Probe:
    """During a few calls: which layers run, and what the first weighted layer receives."""

    def __init__(self, root: Root, stream: Stream) -> None:
        self.root, self.stream = root, stream
        self.moments: dict[str, float] | None = None
        self.normalised = False

    def enters(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module inside the root is about to run."""
        if module._parameters and torch.is_grad_enabled():
            self.root.executed.add(id(module))
        if self.moments is None:
            if isinstance(module, WEIGHTED):
                self.moments = self._measure(args)
            elif isinstance(module, (*NORMS, nn.LayerNorm, nn.GroupNorm)):
                self.normalised = True

    def _measure(self, args: tuple[Any, ...]) -> dict[str, float]:
        x = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if x is None or not x.is_floating_point() or x.numel() < 2 or x.device.type == "meta":
            return {}
        self.stream.quiet += 1
        try:
            x = x.detach().float()
            std, mean = torch.std_mean(x)
            return {
                "mean": float(mean), "std": float(std), "largest": float(x.abs().amax()), "values": x.numel(),
                "features": x.shape[-1],
            }  # fmt: skip
        finally:
            self.stream.quiet -= 1


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
        self.last_ids: tuple[tuple[int, ...], int | None] | None = None
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
                self.last_root = root
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

    def _hook(self, call: Call, result: Any) -> int:
        count = 0
        for tensor in _tensors(result):
            if tensor.requires_grad and tensor.grad_fn is not None and count < 8:
                tensor.register_hook(_Arrival(self, call))
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
                self._scan_retained()
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
            if norm is not None and norm.training and norm.momentum:
                root.frozen_norm_updates.hit(call.tick)
                break

    def _scan_retained(self) -> None:
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
