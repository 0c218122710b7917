"""How an optimizer answers to a gradient, measured on its first steps: no name is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from kudari.tune.trial import Trials


@dataclass(frozen=True)
class StepShape:
    """How an optimizer answers to a gradient, whatever its name.

    Attributes:
        moved: length of a step, once it has seen the same gradient for long, as a share of the weights'.
        ignores: how much that length depends on the gradient's: 0 in proportion (SGD), 1 not at all (Adam).
            Clipping counts: SGD under a clip that always bites takes steps of one length.
        memory: how steps grow under one and the same gradient: by ``memory**t`` from step to step. 0.9 for
            SGD with momentum 0.9, 0 for SGD and for averages that are corrected or normalised.
    """

    moved: float
    ignores: float
    memory: float


def step_of(trials: Trials) -> StepShape:
    """Measured on the first gradient: three steps with the whole of it, one with a tenth."""
    whole, tenth = relative_moves(trials, count=3), relative_moves(trials, 0.1)[0]
    if whole[0] == 0 and len(whole) > 1:  # ADOPT and SOAP only look at the first gradient
        whole, tenth = relative_moves(trials, count=4)[1:], relative_moves(trials, 0.1, count=2)[-1]
    first, moved = whole[0], whole[0]
    if not (len(whole) == 3 and all(math.isfinite(m) and m > 0 for m in whole) and tenth > 0):
        return StepShape(first, 1.0, 0.0)
    memory, rise, more = 0.0, whole[1] - whole[0], whole[2] - whole[1]
    if rise > 0.01 * first and more > 0:  # a geometric sum, whose rest is known from two of its terms
        memory = min(0.99, more / rise)
        moved = first + rise / (1.0 - memory)
    return StepShape(moved, 1.0 - min(1.0, max(0.0, math.log10(first / tenth))), memory)


def relative_moves(trials: Trials, loss_scale: float = 1.0, count: int = 1) -> list[float]:
    """Lengths of the first steps, with one gradient, over that of the weights; costs ``count`` steps."""
    weights = [p for p in trials.model.parameters() if p.requires_grad]
    weights = [p for p in weights if p.ndim >= 2] or weights
    found = []

    def measure(before: list[torch.Tensor]) -> None:
        with torch.no_grad():
            moved = sum(
                float((p - old).float().square().sum()) for p, old in zip(weights, before, strict=True)
            )
            size = sum(float(old.float().square().sum()) for old in before)
        found.append(math.sqrt(moved / size) if size > 0 else 0.0)

    trials.first_steps(measure, weights, loss_scale, count)
    return found or [0.0]
