"""How deep in a model a parameter lies, for learning rates that decay from the output to the input."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from kudari.errors import ArgumentError, did_you_mean


def depths(model: nn.Module, names: Sequence[str], layers: Sequence[str] | None) -> dict[str, int]:
    """The layer of each parameter: 0 at the input, growing to the output.

    Layer i + 1 is the i-th of ``layers``. What is registered before the first, such as an embedding, is
    layer 0; what comes between two goes with the second; what comes after the last is one layer more (Clark
    et al. 2020, ELECTRA; Bao et al. 2021, BEiT).

    Args:
        model: its modules are looked up.
        names: parameters in the order of the model.
        layers: names of modules from input to output. By default the children of every outermost
            ``ModuleList`` or ``Sequential`` that has two or more of them with parameters, in order.

    Raises:
        ArgumentError: there is no such module, or no list of layers to be found.
    """
    modules = dict(model.named_modules())
    for layer in layers or ():
        if layer not in modules:
            raise ArgumentError(
                f"layers has {layer!r}, which is no module of the model.{did_you_mean(layer, modules)}",
                fix="Give names of modules, from input to output.",
            )
    chosen = list(layers) if layers is not None else _stacks(model)
    if not chosen:
        raise ArgumentError(
            "The model has no list of layers to decay the learning rate along.",
            why="Only the order of layers says which are near the input.",
            fix="Pass layers=[...], names of modules from input to output.",
        )
    found: dict[str, int] = {}
    waiting: list[str] = []
    deepest = 0
    for name in names:
        place = next((i for i, layer in enumerate(chosen) if name.startswith(f"{layer}.")), None)
        if place is None:
            waiting.append(name)
            continue
        found |= dict.fromkeys(waiting, 0 if deepest == 0 else place + 1)
        waiting.clear()
        found[name] = place + 1
        deepest = max(deepest, place + 1)
    return found | dict.fromkeys(waiting, deepest + 1)


def _stacks(model: nn.Module) -> list[str]:
    """Names of the layers: children of the outermost lists of modules."""
    found: list[str] = []
    inside: list[str] = []
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if not isinstance(module, (nn.ModuleList, nn.Sequential)) or any(name.startswith(i) for i in inside):
            continue
        children = [
            f"{prefix}{k}" for k, child in module.named_children() if any(True for _ in child.parameters())
        ]
        if len(children) > 1:
            found += children
            inside.append(prefix)
    return found
