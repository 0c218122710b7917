"""What a recipe depends on, as plain numbers, read from models, data and machines. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, get_args

from kudari.errors import ArgumentError, did_you_mean

Task = Literal["classification", "regression", "language"]
Purpose = Literal["training", "pretraining", "finetuning"]
Kind = Literal["mlp", "cnn", "recurrent", "transformer"]

REFERENCE_BATCH = 64
"""Samples of the batch that the tabulated learning rates are for."""


@dataclass(frozen=True)
class Hardware:
    """A machine.

    Attributes:
        memory_gib: memory of the device that holds the model, in GiB; None where unknown.
        device: ``cpu``, ``cuda`` or ``mps``.
    """

    memory_gib: float | None = None
    device: str = "cpu"

    @classmethod
    def here(cls) -> Hardware:
        """The memory of this machine, by what the operating system says.

        Example:
            >>> Hardware.here().device
            'cpu'
        """
        try:
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (ValueError, OSError, AttributeError):
            return cls()
        return cls(total / 2**30)


@dataclass(frozen=True)
class Situation:
    """What the defaults depend on.

    Attributes:
        task: ``classification``, ``regression`` or ``language`` (next-token prediction).
        purpose: ``training`` from scratch, ``pretraining`` on a large corpus, ``finetuning`` of weights that
            have learned something already.
        samples: training samples.
        parameters: trainable parameters of the model.
        kind: of the model's layers.
        optimizer: its name in lower case where it is decided; None asks for advice.
        batch_size: samples in a batch, where it is decided; None asks for advice.
        accumulate: batches added up before each step.
        seen: samples that the whole run looks at, each as often as it comes; None where unknown.
        momentum: where it is decided; None asks for advice.
        picture_side: the shorter side in pixels where a cnn looks at pictures, else None.
        memory_gib: of the device, None where unknown or plenty.
    """

    task: Task
    samples: int
    parameters: int
    purpose: Purpose = "training"
    kind: Kind = "mlp"
    optimizer: str | None = None
    batch_size: int | None = None
    accumulate: int = 1
    seen: int | None = None
    momentum: float | None = None
    picture_side: int | None = None
    memory_gib: float | None = None

    @property
    def large_batch(self) -> bool:
        """Whether a step has so many samples that layers need rates of their own."""
        return self.batch_size is not None and self.samples_per_step >= 4096

    @property
    def samples_per_step(self) -> int:
        """Samples that one optimizer step sees: of a batch that was decided, never more than there are."""
        if self.batch_size is None:
            return REFERENCE_BATCH * self.accumulate
        return min(self.batch_size * self.accumulate, self.samples)

    @property
    def little_memory(self) -> bool:
        """Whether weights, gradients and Adam's two averages would fill more than half of the memory."""
        return self.memory_gib is not None and 16 * self.parameters > 0.5 * self.memory_gib * 2**30


def look(task: str, model: Any, data: Any, hardware: Hardware | None, given: dict[str, Any]) -> Situation:
    """Put together what was given and what the objects tell; what was given wins.

    Raises:
        ArgumentError: a word is unknown, or the number of samples or parameters cannot be known.
    """
    known = {k: v for k, v in given.items() if v is not None}
    if model is not None:
        if not hasattr(model, "parameters"):
            raise ArgumentError(
                f"recipe: model is a {type(model).__name__}.",
                fix="Pass a module, or parameters= as a number.",
            )
        known.setdefault("parameters", sum(p.numel() for p in model.parameters() if p.requires_grad))
        known.setdefault("kind", kind_of(type(m).__name__ for m in model.modules()))
    if data is not None:
        known.setdefault("samples", _count(data))
    if hardware is not None:
        if not isinstance(hardware, Hardware):
            raise ArgumentError(
                f"recipe: hardware={hardware!r} is no machine.",
                fix="Pass kudari.tune.Hardware(memory_gib=8), or Hardware.here().",
            )
        known.setdefault("memory_gib", hardware.memory_gib)
    if "kind" not in known and known.get("picture_side") is not None:
        known["kind"] = "cnn"
    for name, word, allowed in (
        ("task", task, get_args(Task)),
        ("purpose", known.get("purpose", "training"), get_args(Purpose)),
        ("kind", known.get("kind", "mlp"), get_args(Kind)),
    ):
        if word not in allowed:
            raise ArgumentError(
                f"recipe: {name}={word!r} is not known.{did_you_mean(str(word), allowed)}",
                fix=f"Choose one of {', '.join(allowed)}.",
            )
    _check_numbers(known)
    for name, source in (("samples", "data"), ("parameters", "model")):
        if name not in known:
            raise ArgumentError(
                f"recipe: neither {source} nor {name} is given.",
                why="Rates, batch and length depend on them.",
                fix=f"Pass {source}=, or {name}= as a number.",
            )
    known = {k: v for k, v in known.items() if k not in ("epochs", "steps")}  # they become samples seen
    return Situation(task=task, **known)  # type: ignore[arg-type]


def _check_numbers(known: dict[str, Any]) -> None:
    momentum = known.get("momentum", 0.0)
    if not 0.0 <= momentum < 1.0:
        raise ArgumentError(
            f"recipe: momentum is {momentum}.", fix="Take a number of 0 or more and below 1, such as 0.9."
        )
    least = {"samples": 1, "parameters": 0, "batch_size": 1, "accumulate": 1, "epochs": 1, "steps": 1}
    for name, low in least.items():
        value = known.get(name, low)
        if not isinstance(value, Integral) or value < low:
            raise ArgumentError(f"recipe: {name} is {value!r}.", fix=f"Take a whole number of {low} or more.")


def kind_of(layers: Iterable[str]) -> Kind:
    """The kind of a model by the names of its layers' classes.

    Example:
        >>> kind_of(["Sequential", "Conv2d", "Linear"]), kind_of(["GRU", "Embedding", "Linear"])
        ('cnn', 'recurrent')
    """
    names = set(layers)
    if any("attention" in n.lower() or "transformer" in n.lower() for n in names):
        return "transformer"
    if names & {"LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"}:
        return "recurrent"
    if any(n.startswith(("Conv", "LazyConv")) for n in names):
        return "cnn"
    return "transformer" if "Embedding" in names else "mlp"


def _count(data: Any) -> int:
    for found in (getattr(data, "train", None), data):
        if isinstance(found, (tuple, list)) and found and hasattr(found[0], "__len__"):
            return len(found[0])
        dataset: Any = getattr(found, "dataset", found)
        if hasattr(dataset, "__len__"):
            return len(dataset)
    raise ArgumentError(
        f"recipe: the samples of a {type(data).__name__} cannot be counted.", fix="Pass samples= as a number."
    )
