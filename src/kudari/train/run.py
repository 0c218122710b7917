"""What a run is about, and what comes back from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kudari.data import Bundle
from kudari.record import Choice, Facts, RunDir
from kudari.record.facts import Task

Status = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class About:
    """What people want to read about a run, and how its numbers translate back to their world.

    Attributes:
        name: stem of the run's folder.
        title: one line.
        task: decides loss and plots where they are not given; None to look at the targets.
        data: sentences about the data.
        classes: names in the order of the outputs.
        valid_names: of the validation samples.
        picture: ``picture(index)``, PNG bytes of a validation sample or None.
        units: turns standardised targets and outputs (N, K) into their own units.
        recipe: decisions made before, with their reasons.
        command: shell command that reproduces the run; empty to use the command line of this process.
    """

    name: str = ""
    title: str = ""
    task: Task | None = None
    data: tuple[str, ...] = ()
    classes: Sequence[str] = ()
    valid_names: Sequence[str] = ()
    picture: Callable[[int], bytes | None] | None = None
    units: Callable[[Tensor], Tensor] | None = None
    recipe: tuple[Choice, ...] = ()
    command: str = ""

    @classmethod
    def of(cls, bundle: Bundle) -> About:
        """Take everything a :class:`kudari.data.Bundle` knows."""
        return cls(
            name=bundle.name,
            title=bundle.title,
            task=bundle.task,
            data=bundle.said,
            classes=bundle.classes,
            valid_names=bundle.valid_names,
            picture=lambda index: bundle.pipeline.decode_picture(bundle.valid.inputs[index]),
            units=bundle.pipeline.to_units if bundle.task == "regression" else None,
        )


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Attributes:
        dir: its folder.
        model: the trained module, on its device, with the weights of ``model.safetensors``.
        metrics: final values, such as ``{"train_loss": 0.02, "valid_loss": 0.06, "valid_accuracy": 0.986}``.
        seconds: of the whole run, earlier sessions included.
        steps: optimizer steps done.
        facts: all that the report draws.
        status: ``finished``, ``interrupted`` or ``failed``.
        message: a sentence on what happened and what to do, empty where it finished.
    """

    dir: RunDir
    model: nn.Module
    metrics: Mapping[str, float]
    seconds: float
    steps: int
    facts: Facts
    status: Status
    message: str = ""

    def predict(self, x: Any, batch_size: int = 1024) -> Tensor:
        """Return the model's outputs for new inputs, on the CPU.

        Args:
            x: inputs (N, ...), a tensor or an array, prepared as the training inputs were.
            batch_size: samples of one forward pass.

        Example:
            >>> run.predict(torch.zeros(3, 64)).shape  # doctest: +SKIP
            torch.Size([3, 10])
        """
        inputs = torch.as_tensor(x)
        if inputs.dtype == torch.float64:
            inputs = inputs.float()
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                return torch.cat(
                    [self.model(part.to(device)).cpu() for part in torch.split(inputs, batch_size)]
                )
        finally:
            self.model.train(was_training)
