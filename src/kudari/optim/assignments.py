"""What each parameter of a model is: weight, embedding, bias, scale of a norm; and whether it is decayed."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from torch import nn

from kudari.errors import ArgumentError, did_you_mean

_NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm,
    nn.modules.batchnorm._NormBase,  # batch and instance norms of any dimension
)  # fmt: skip

KINDS = ("weight", "embedding", "bias", "norm", "vector or scalar")


@dataclass(frozen=True)
class Assignment:
    """A parameter's place.

    Attributes:
        name: dotted name in the model.
        decayed: whether weight decay acts on it.
        why: what it is, one of ``KINDS``, or ``listed`` if its name was given.
    """

    name: str
    decayed: bool
    why: str


def assign(
    model: nn.Module,
    *,
    no_decay: Collection[str] = ("bias", "norm", "vector or scalar"),
    no_weight_decay_list: Collection[str] = (),
) -> list[Assignment]:
    """Decide for every trainable parameter whether it is decayed.

    Weights of linear maps, convolutions and embeddings are. Biases, scales of norms, and other vectors and
    scalars are not: they are few, they do not overfit, and pulling a norm's scale to zero works against it
    (Loshchilov, Hutter 2019 decay all; Goyal et al. 2017, section 5.3, and most practice since do not).

    Args:
        model: a tensor shared by several modules is listed once, under its first name; shared with an
            embedding, it is one.
        no_decay: kinds that are not decayed, of ``weight``, ``embedding``, ``bias``, ``norm`` and
            ``vector or scalar``.
        no_weight_decay_list: names of parameters or modules that are not decayed either; ``*`` stands for
            anything.

    Raises:
        ArgumentError: there is no such kind, or a name that fits no parameter.
    """
    for kind in no_decay:
        if kind not in KINDS:
            raise ArgumentError(
                f"no_decay={kind!r} is no kind of parameter.{did_you_mean(kind, KINDS)}",
                fix=f"Choose among {', '.join(KINDS)}; single names go into no_weight_decay_list.",
            )
    kinds = kinds_of(model)
    listed = matching(kinds, no_weight_decay_list, "no_weight_decay_list")
    return [
        Assignment(name, False, "listed") if name in listed else Assignment(name, kind not in no_decay, kind)
        for name, kind in kinds.items()
    ]


def kinds_of(model: nn.Module) -> dict[str, str]:
    """The kind of every trainable parameter by its first name, in the order of the model."""
    owners = dict(model.named_modules(remove_duplicate=False))
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names.setdefault(parameter, []).append(name)
    found = {}
    for parameter, known in names.items():
        modules = [owners[name.rpartition(".")[0]] for name in known]
        leaf = known[0].rpartition(".")[2]
        if any(isinstance(m, (nn.Embedding, nn.EmbeddingBag)) for m in modules):
            kind = "embedding"
        elif any(isinstance(m, _NORMS) for m in modules):
            kind = "norm"
        elif leaf.startswith("bias") or leaf.endswith("bias"):
            kind = "bias"
        else:
            kind = "vector or scalar" if parameter.ndim < 2 else "weight"
        found[known[0]] = kind
    return found


def matching(names: Iterable[str], patterns: Collection[str], argument: str) -> set[str]:
    """The parameters that patterns name: their own names, a module's, or either with ``*``.

    Raises:
        ArgumentError: a pattern fits nothing.
    """
    names = list(names)
    if isinstance(patterns, str):
        raise ArgumentError(
            f"{argument}={patterns!r} is a text.", fix=f"Pass a list: {argument}=[{patterns!r}]."
        )
    found: set[str] = set()
    for pattern in patterns:
        fits = {n for n in names if fnmatch.fnmatchcase(n, pattern) or fnmatch.fnmatchcase(n, f"{pattern}.*")}
        if not fits:
            raise ArgumentError(
                f"{argument} has {pattern!r}, which fits no trainable parameter."
                f"{did_you_mean(pattern, [*names, *_modules(names)])}",
                fix="Give the name of a parameter or module; model.named_parameters() lists them.",
            )
        found |= fits
    return found


def _modules(names: Iterable[str]) -> list[str]:
    """Names of all modules on the way to the parameters."""
    parts = [name.split(".") for name in names]
    return list(dict.fromkeys(".".join(p[:i]) for p in parts for i in range(1, len(p))))
