"""Numbers that a group keeps from step to step: plain ones, or on the device for a CUDA graph to change.

Such numbers, Prodigy's ``d`` and Schedule-Free's sum of weights among them, are plain values in the group,
where people read them, and the host computes them after each step. A graph replays no code of the host: with
``capturable=True`` a group whose kernels run on a GPU has them there, as float64 tensors with no dimension.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from kudari.compile import eager
from kudari.compile.expression import Expr, evaluate
from kudari.compile.notation import Rule


def bring(rule: Rule, group: MutableMapping[str, Any], device: torch.device) -> None:
    """Bring the group's own numbers to a device; those that are there stay the tensors they are."""
    for declared in rule.running:
        value = group[declared.name]
        if not (isinstance(value, Tensor) and value.device == device):
            number = float(value)
            group[declared.name] = torch.full((), number, dtype=torch.float64, device=device)


def plain(rule: Rule, group: Mapping[str, Any]) -> dict[str, Any]:
    """The group with plain values in place of tensors among its own numbers; whole numbers stay whole."""
    kinds = {r.name: float if isinstance(r.start, str) else type(r.start) for r in rule.running}
    found = {n: kind(group[n]) for n, kind in kinds.items() if isinstance(group.get(n), Tensor)}
    return {**group, **found}


def advanced(new: Iterable[tuple[str, Expr]], values: Mapping[str, Any]) -> dict[str, float | Tensor]:
    """New values in float64, computed where the old ones are.

    Args:
        new: names and what their values become.
        values: every number in that, as a plain one or as a tensor with one element; if any of the named
            numbers is a tensor, nothing waits for its device.
    """
    pairs = list(new)
    if not pairs:
        return {}
    at = next((values[n].device for n, _ in pairs if isinstance(values[n], Tensor)), None)
    if at is None:
        numbers = {name: float(x) for name, x in values.items()}
        return {name: evaluate(expr, numbers) for name, expr in pairs}
    there = {n: _wide(x, at) if isinstance(x, Tensor) else float(x) for n, x in values.items()}
    found = eager.evaluate(tuple(e for _, e in pairs), {}, there)
    return dict(zip((n for n, _ in pairs), found, strict=True))


def take(group: MutableMapping[str, Any], new: Mapping[str, float | Tensor], skip: Tensor | None) -> None:
    """Give a group new values of its own numbers.

    Args:
        group: the group.
        new: by name.
        skip: a tensor with one element; where it is not zero, numbers in tensors stay as they are. None for
            no such flag.
    """
    for name, value in new.items():
        old = group[name]
        if not isinstance(old, Tensor):
            group[name] = type(old)(value)
            continue
        found = _wide(value, old.device) if isinstance(value, Tensor) else torch.full_like(old, value)
        if skip is not None:
            found = torch.where(_wide(skip, old.device) != 0, old, found)
        old.copy_(found)


def _wide(x: Tensor, device: torch.device) -> Tensor:
    return x.detach().to(device, torch.float64, non_blocking=True).reshape(())
