"""Run a model once more on the batch that broke it, and watch every operation: which one was first?

This runs on a copy, with the generators put back, and only after a loss or a gradient was not finite.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from kudari.doctor.places import Site, is_user
from kudari.doctor.track.probes import untouched_randomness

CAUSES = {
    **dict.fromkeys(("log", "log2", "log10", "log1p", "logit", "xlogy"), "log"),
    **dict.fromkeys(("sqrt", "rsqrt", "norm", "cdist", "std", "var"), "sqrt"),
    **dict.fromkeys(("div", "true_divide", "truediv", "rtruediv", "rdiv", "reciprocal"), "division"),
    **dict.fromkeys(("pow", "rpow", "float_power"), "power"),
    **dict.fromkeys(("acos", "asin", "arccos", "arcsin", "atanh", "acosh"), "range"),
}  # fmt: skip
# Operations that are given infinities on purpose: masks.
MASKS = frozenset(
    ("masked_fill", "where", "full", "full_like", "tensor", "new_full", "fill", "setitem", "triu")
)


@dataclass(frozen=True)
class Origin:
    """The first operation whose values, or whose slope, are not finite though what it was given is.

    Attributes:
        cause: key of the fixes, such as ``log``, ``division``, ``input``.
        operation: name of the torch function.
        module: path of the innermost module it ran in, such as ``encoder.0``; empty for the model itself.
        kind: class of that module.
        site: the user's line; None where only torch's own code is inside the model.
        detail: what it was given, in a phrase.
    """

    cause: str
    operation: str
    module: str
    kind: str
    site: Site | None
    detail: str


@dataclass(frozen=True)
class _Event:
    operation: str
    module: str
    kind: str
    site: Site | None
    given: str
    infinite_given: bool
    is_nan: bool


class _Watcher(TorchFunctionMode):
    """Notes the operations that make non-finite values of finite ones, and who made which graph node."""

    def __init__(self, owner: nn.Module) -> None:
        super().__init__()
        self.path = [("", type(owner).__name__)]
        self.events: list[_Event] = []
        self.nodes: dict[Any, _Event] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _floats((args, kwargs))
        # What is changed in place has to be described before.
        clean = not any(bool(torch.isnan(t).any()) for t in given)
        infinite = any(bool(torch.isinf(t).any()) for t in given)
        about = _range(given)
        result = func(*args, **(kwargs or {}))
        made = _floats(result)
        if not made:
            return result
        name = func.__name__.strip("_").removesuffix("_")
        event = _Event(
            name, *self.path[-1], _site(), about, infinite, any(bool(torch.isnan(t).any()) for t in made)
        )
        if clean and (event.is_nan or (not infinite and any(bool(torch.isinf(t).any()) for t in made))):
            self.events.append(event)
        for tensor in made:
            for node in _new_nodes(tensor.grad_fn, self.nodes):
                self.nodes[node] = event
        return result

    def enters(self, path: str, module: nn.Module) -> Any:
        """Keep the path of the module that is running."""
        self.path.append((path, type(module).__name__))


def replay(module: nn.Module, args: Any, kwargs: dict[str, Any], slopes: bool) -> Origin | None:
    """Find the operation inside a model that first gave a value, or a slope, that is not finite.

    Args:
        module: the model; a copy of it runs, in the same mode.
        args, kwargs: what it was called with.
        slopes: look for an infinite slope in a backward of the sum of its outputs, else for a value.

    Returns:
        None where all of the model's values (or slopes) are finite: the origin is outside.
    """
    if any(not bool(torch.isfinite(t).all()) for t in _floats((args, kwargs))):
        return Origin(
            "input", "", "", type(module).__name__, None, "the batch itself holds values that are not finite"
        )
    with untouched_randomness(), torch.enable_grad():
        twin = copy.deepcopy(module)
        watcher = _Watcher(twin)
        for path, part in twin.named_modules():
            part.register_forward_pre_hook(lambda m, a, path=path: watcher.enters(path, m), prepend=True)
            part.register_forward_hook(lambda m, a, out: watcher.path.pop() and None, always_call=True)
        with watcher:
            result = twin(*args, **kwargs)
        made = _floats(result)
        if slopes:
            return _first_slope(watcher, [t for t in made if t.requires_grad])
        if all(bool(torch.isfinite(t).all()) for t in made):
            return None
    event = _first_value(watcher.events)
    return None if event is None else _origin(event)


def _first_value(events: list[_Event]) -> _Event | None:
    nan = next((e for e in events if e.is_nan), None)
    infinite = next((e for e in events if not e.is_nan and e.operation not in MASKS), None)
    if nan is None or (nan.infinite_given and infinite is not None):
        return infinite
    return nan


def _first_slope(watcher: _Watcher, outputs: list[Any]) -> Origin | None:
    """The first node of a backward that is given finite slopes and returns others."""
    found: list[_Event] = []

    def look(event: _Event) -> Any:
        def hook(out: Any, given: Any) -> None:
            broke = any(not bool(torch.isfinite(g).all()) for g in _floats(out))
            if broke and all(bool(torch.isfinite(g).all()) for g in _floats(given)):
                found.append(event)

        return hook

    for node, event in watcher.nodes.items():
        node.register_hook(look(event))
    total = sum(t.float().sum() for t in outputs)
    if isinstance(total, torch.Tensor) and bool(torch.isfinite(total)):
        total.backward()  # type: ignore[no-untyped-call]
    return _origin(found[0]) if found else None


def _origin(event: _Event) -> Origin:
    cause = CAUSES.get(event.operation, "overflow")
    detail = f"{event.operation} of {event.given}" if event.given else event.operation
    return Origin(cause, event.operation, event.module, event.kind, event.site, detail)


def _range(tensors: list[Any]) -> str:
    """What an operation is given: the range of each tensor."""
    spans = []
    for t in tensors[:2]:
        if t.numel():
            low, high = float(t.detach().min()), float(t.detach().max())
            spans.append(f"{low:.4g}" if low == high else f"values from {low:.4g} to {high:.4g}")
    return " and ".join(spans)


def _floats(value: Any, depth: int = 3) -> list[Any]:
    """Floating tensors in nested arguments."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() and value.layout == torch.strided else []
    if depth and isinstance(value, (tuple, list)):
        return [t for item in value for t in _floats(item, depth - 1)]
    if depth and isinstance(value, dict):
        return [t for item in value.values() for t in _floats(item, depth - 1)]
    return []


def _new_nodes(node: Any, known: dict[Any, _Event]) -> list[Any]:
    """Nodes behind ``node`` that no earlier operation made."""
    if node is None or node in known:
        return []
    found, queue = [node], [node]
    while queue:
        for parent, _ in queue.pop().next_functions:
            if (
                parent is not None
                and parent not in known
                and parent not in found
                and not hasattr(parent, "variable")
            ):
                found.append(parent)
                queue.append(parent)
    return found


def _site() -> Site | None:
    """The innermost frame of user code inside the replayed forward."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code is not replay.__code__:
        if is_user(frame.f_code):
            return Site(frame.f_code, frame.f_lasti)
        frame = frame.f_back  # type: ignore[assignment]
    return None
