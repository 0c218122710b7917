"""Parameter groups: which parameters are decayed, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm,
    nn.modules.batchnorm._NormBase,  # batch and instance norms of any dimension
)  # fmt: skip


@dataclass(frozen=True)
class Assignment:
    """A parameter's place.

    Attributes:
        name: dotted name in the model.
        decayed: whether weight decay acts on it.
        why: the reason, in a few words.
    """

    name: str
    decayed: bool
    why: str


def assign(model: nn.Module) -> list[Assignment]:
    """Decide for every trainable parameter whether it is decayed.

    Weights of linear maps, convolutions and embeddings are. Biases, scales of norms, and other vectors and
    scalars are not: they are few, they do not overfit, and pulling a norm's scale to zero works against it
    (Loshchilov, Hutter 2019 decay all; Goyal et al. 2017, section 5.3, and most practice since do not).
    A tensor shared by several modules is listed once.
    """
    norms = {name for name, module in model.named_modules() if isinstance(module, _NORMS)}
    found = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner, _, leaf = name.rpartition(".")
        if owner in norms:
            found.append(Assignment(name, False, "norm"))
        elif leaf.startswith("bias") or leaf.endswith("bias"):
            found.append(Assignment(name, False, "bias"))
        elif parameter.ndim < 2:
            found.append(Assignment(name, False, "vector or scalar"))
        else:
            found.append(Assignment(name, True, "weight"))
    return found


def groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for any optimizer: decayed weights, and the rest with ``weight_decay=0``.

    Args:
        model: its trainable parameters are taken, each once.
        weight_decay: of the decayed ones.

    Returns:
        One or two dicts with ``params``, ``param_names`` and ``weight_decay``; none is empty.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        >>> [(g["weight_decay"], g["param_names"]) for g in groups(model, weight_decay=0.1)]
        [(0.1, ['0.weight', '2.weight']), (0.0, ['0.bias', '1.weight', '1.bias', '2.bias'])]
    """
    parameters: dict[str, torch.nn.Parameter] = dict(model.named_parameters())
    made: list[dict[str, Any]] = []
    for decayed, rate in ((True, weight_decay), (False, 0.0)):
        names = [a.name for a in assign(model) if a.decayed is decayed]
        if names:
            made.append(
                {
                    "params": [parameters[name] for name in names],
                    "param_names": names,
                    "weight_decay": rate,
                }
            )
    return made
