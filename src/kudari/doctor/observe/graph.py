"""Read an autograd graph: its leaves, its activations, and the chain of views behind a tensor."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

# Nodes that move or select values and compute none.
VIEWS = frozenset(
    f"{name}Backward{i}"
    for i in range(3)
    for name in (
        "View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "Transpose", "T", "Permute", "Expand",
        "Select", "Slice", "Index", "IndexSelect", "Clone", "ToCopy", "Alias", "Cat", "Stack", "Split",
        "SplitWithSizes", "Unbind", "SafeSplit", "Movedim", "Flatten", "AsStrided", "ContiguousView", "Mv",
    )
    if name != "Mv"
)  # fmt: skip
_SCALES = ("MulBackward0", "DivBackward0")
_MEANS = ("MeanBackward0", "MeanBackward1")
MEAN_REDUCTION, SUM_REDUCTION = 1, 2
# Reads a value past what counts the reads of the script.
read_value = torch.Tensor.item
_WHOLE = (torch.Tensor, torch.nn.Parameter)
_HOOK_KEY = -1  # torch counts its handles from 0


@dataclass
class Graph:
    """What one walk over the graph of a loss saw.

    Attributes:
        leaves: tensors whose gradient this backward accumulates.
        nodes: operation nodes in breadth-first order from the loss.
        complete: False when the walk stopped at its limit.
    """

    leaves: list[Any] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    complete: bool = True


def walk(node: Any, limit: int = 20000) -> Graph:
    """Visit the graph behind ``node`` once."""
    graph = Graph()
    if node is None:
        return graph
    seen, queue = {node}, deque([node])
    while queue:
        node = queue.popleft()
        variable = getattr(node, "variable", None)
        if variable is not None:
            graph.leaves.append(variable)
            continue
        graph.nodes.append(node)
        if len(seen) > limit:
            graph.complete = False
            break
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                queue.append(parent)
    return graph


def direct_chain(node: Any, limit: int = 12) -> Iterator[Any]:
    """The nodes behind a tensor, through view-like nodes only; the last one computes."""
    for _ in range(limit):
        if node is None:
            return
        yield node
        if type(node).__name__ not in VIEWS:
            return
        node = node.next_functions[0][0]


def origin(tensor: Any) -> Any:
    """The node that computed the values of a tensor, behind its views; None without a graph."""
    last = None
    for last in direct_chain(tensor.grad_fn):  # noqa: B007
        pass
    return last


def saved(node: Any, name: str) -> Any:
    """A saved tensor or number of a node, or None where it is absent, freed or was changed in place."""
    try:
        return getattr(node, f"_saved_{name}", None)
    except RuntimeError:
        return None


def add_hook(tensor: Any, hook: Any) -> None:
    """Call ``hook`` with the gradient of a tensor that an operation computed, and keep no handle to it.

    ``Tensor.register_hook`` does the same and makes a handle besides, which takes longer than all the rest.
    """
    register = getattr(tensor.grad_fn, "_register_hook_dict", None)
    if register is None or type(tensor) is not torch.Tensor or tensor._backward_hooks is not None:
        tensor.register_hook(hook)
        return
    tensor._backward_hooks = OrderedDict({_HOOK_KEY: hook})
    register(tensor)


def local_part(tensor: Any) -> Any:
    """This rank's part of a sharded tensor, and any other tensor as it is.

    A sum or a norm of a DTensor waits for the other ranks, which need not be asking for it.
    """
    return tensor if type(tensor) in _WHOLE else getattr(tensor, "_local_tensor", tensor)


def loss_tail(node: Any, depth: int = 4) -> tuple[bool | None, float]:
    """How a scalar loss was reduced: (mean or sum or unknown, constant factors multiplied in)."""
    factor = 1.0
    for _ in range(8):
        if node is None:
            return None, factor
        name = type(node).__name__
        if name in _SCALES:
            constant = _constant(node)
            if constant is None:
                return None, factor
            factor *= constant if name == "MulBackward0" else 1.0 / constant if constant else 1.0
            node = next((parent for parent, _ in node.next_functions if parent is not None), None)
        elif name in _MEANS:
            return True, factor
        elif name.startswith("SumBackward"):
            return False, factor
        elif name == "AddBackward0" and depth:
            kinds = [loss_tail(p, depth - 1) for p, _ in node.next_functions if p is not None]
            same = all(kind == kinds[0] for kind in kinds)
            return (kinds[0][0], factor * kinds[0][1]) if kinds and same else (None, factor)
        elif name in VIEWS:
            node = node.next_functions[0][0]
        else:
            reduction = saved(node, "reduction")
            return (reduction == MEAN_REDUCTION if isinstance(reduction, int) else None), factor
    return None, factor


def _constant(node: Any) -> float | None:
    parents = [parent for parent, _ in node.next_functions]
    if len(parents) > 1 and all(parent is not None for parent in parents):
        return None
    other = saved(node, "other")
    if other is None or other.numel() != 1 or other.requires_grad:
        return None
    return float(other.detach())
