"""All facts of one watched run, as the judges read them."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from kudari.doctor.observe.stream import FIRST_SAMPLED_STEPS, Stream
from kudari.doctor.track.backwards import BackwardTracker
from kudari.doctor.track.calls import Root
from kudari.doctor.track.data import DataTracker
from kudari.doctor.track.health import HealthTracker
from kudari.doctor.track.losses import LossTracker
from kudari.doctor.track.optimizers import OptimizerTracker
from kudari.doctor.track.resting import Rest
from kudari.doctor.track.roots import RootTracker
from kudari.doctor.track.schedules import ScheduleTracker


class RunFacts:
    """The trackers of a run, connected to one stream.

    Attributes:
        aborted: the script raised.
    """

    def __init__(self, every: int = 25, first: int = FIRST_SAMPLED_STEPS) -> None:
        self.stream = Stream(every, first)
        self.backwards = BackwardTracker(self.stream)
        self.optimizers = OptimizerTracker(self.stream, self.backwards)
        self.roots = RootTracker(self.stream, self.optimizers)
        self.losses = LossTracker(self.stream, self.roots)
        self.schedules = ScheduleTracker(self.stream, self.optimizers)
        self.data = DataTracker(self.stream, self.roots)
        self.health = HealthTracker(self.stream)
        self.reached_leaves: dict[int, list[Any]] = {}
        self.aborted = False
        self.began = perf_counter()
        self.backwards.readers += [self._read_leaves, self.losses.read_graph, self.health.read_graph]
        self.backwards.on_nonfinite = self.health.nonfinite_loss
        self.health.replay = self.roots.replay
        self.backwards.loss_scale = self.schedules.loss_scale
        self.optimizers.on_step.append(self.health.step)
        for tracker in (
            self.optimizers, self.backwards, self.roots, self.losses, self.schedules, self.data, self.health,
        ):  # fmt: skip
            self.stream.subscribe(tracker)
        self.rest = Rest(self)
        self.stream.turns = self.rest.turns
        self.unheld: dict[int, dict[str, Any]] = {}

    def _read_leaves(self, graph: Any, event: Any) -> None:
        """Count, at sampled backwards, the leaves that no optimizer holds."""
        for leaf in graph.leaves:
            if not self.optimizers.is_held(leaf):
                entry = self.unheld.get(id(leaf))
                if entry is None:
                    if len(self.unheld) > 20000:
                        return
                    name, root = self._name(leaf)
                    entry = self.unheld[id(leaf)] = {
                        "count": 0, "name": name, "root": root, "shape": tuple(leaf.shape),
                        "version": leaf._version, "moved": False, "first": self.stream.tick,
                    }  # fmt: skip
                entry["count"] += 1
                entry["moved"] = entry["moved"] or leaf._version != entry["version"]

    def unheld_to_the_end(self) -> list[dict[str, Any]]:
        """Leaves that no optimizer held at any time and that nothing else moved."""
        held = self.optimizers.held
        return [entry for key, entry in self.unheld.items() if key not in held and not entry["moved"]]

    def _name(self, leaf: Any) -> tuple[str, Root | None]:
        for root in self.roots.roots:
            known = root.names.get(id(leaf))
            if known is not None and known[1]() is leaf:
                return known[0], root
        for root in self.roots.roots:
            module = root.ref()
            if module is None:
                continue
            if len(root.names) < sum(1 for _ in module.parameters()):
                root.name_parameters(module)  # layers were made after the first call
                if id(leaf) in root.names:
                    return root.names[id(leaf)][0], root
            for owner, path, item in hung_modules(module):
                for name, p in item.named_parameters():
                    if p is leaf:
                        root.hung.setdefault(path, {"owner": type(owner).__name__, "ids": set()})
                        root.hung[path]["ids"].add(id(leaf))
                        return f"{path}.{name}", root
        return "", None

    def trained_roots(self) -> list[Root]:
        """Models with training calls."""
        return [root for root in self.roots.roots if root.training_calls]

    def finish(self) -> None:
        """Close open passes at the end of the run."""
        for root in self.roots.roots:
            self.roots.finish_pass(root)
        self.forget_batches()

    def forget_batches(self) -> None:
        """Let go of the user's tensors; nothing will be run again."""
        for root in self.roots.roots:
            root.batch, root.kept = None, {}


def hung_modules(module: Any) -> list[tuple[Any, str, Any]]:
    """Modules in plain containers hung on a model: (owner, path such as ``blocks[0]``, module)."""
    from torch import nn

    found = []
    for prefix, owner in module.named_modules():
        for name, value in vars(owner).items():
            if name.startswith("_") and name in ("_modules", "_parameters", "_buffers"):
                continue
            where = f"{prefix}.{name}" if prefix else name
            queue = [(where, value, 0)]
            while queue:
                path, item, depth = queue.pop()
                if isinstance(item, nn.Module):
                    if depth:
                        found.append((owner, path, item))
                elif isinstance(item, (list, tuple)) and depth < 4 and len(item) < 1000:
                    queue += [(f"{path}[{i}]", child, depth + 1) for i, child in enumerate(item)]
                elif isinstance(item, dict) and depth < 4 and len(item) < 1000:
                    queue += [(f"{path}[{k!r}]", child, depth + 1) for k, child in item.items()]
    return found
