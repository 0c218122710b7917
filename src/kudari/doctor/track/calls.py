"""What is remembered of one root call, of an eval pass, and of a module that is called from outside."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn

from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import Site, call_chain, is_user
from kudari.doctor.track.counting import Hits

DROPOUTS = (nn.modules.dropout._DropoutNd,)
NORMS = (nn.modules.batchnorm._NormBase,)
WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase)


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
        self.names: dict[int, tuple[str, weakref.ref[Any]]] = {}
        self.owner: dict[int, int] = {}
        self.name_parameters(module)
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
        self.batch: tuple[int, Any, Any] | None = None  # tick and arguments of the last training call
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
        self.kept: dict[int | str, Any] = {}
        self.mixing: dict[str, float] | None = None
        self.mixing_why = "the model was not probed"
        self.leak: dict[str, float] | None = None
        self.leak_why = "no sequence of token ids was seen"
        self.shifted_targets = Hits()
        self.shifted_input: int | str | None = None
        self.hung: dict[str, Any] = {}
        self.mode_switches: list[tuple[int, bool]] = []

    def name_parameters(self, module: nn.Module) -> None:
        """Names and owners of the parameters as they are now; forward may make layers, too."""
        self.names.update({id(p): (name, weakref.ref(p)) for name, p in module.named_parameters()})
        self.owner.update(
            {id(p): id(m) for m in module.modules() for p in m._parameters.values() if p is not None}
        )


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
