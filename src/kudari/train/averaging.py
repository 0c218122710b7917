"""Optimizers that keep two sets of weights, one to take gradients at and one to judge by (Schedule-Free).

They have ``train()`` and ``eval()`` of their own; the loop calls them, so that validation, the best weights
and the final ones are the averaged ones, and checkpoints are the ones that training goes on from.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer


def has_modes(optimizer: Optimizer) -> bool:
    """Whether an optimizer switches between two sets of weights."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


def set_mode(optimizer: Any, training: bool) -> None:
    """Switch the weights, where the optimizer has two sets of them."""
    if has_modes(optimizer):
        (optimizer.train if training else optimizer.eval)()


@contextmanager
def averaged_weights(optimizer: Any) -> Iterator[None]:
    """The weights to judge by, inside the block; afterwards the others are back, bit for bit."""
    if not has_modes(optimizer):
        yield
        return
    params = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [p.detach().clone() for p in params]
    optimizer.eval()
    try:
        yield
    finally:
        optimizer.train()
        with torch.no_grad():
            for p, value in zip(params, kept, strict=True):
                p.copy_(value)


def warn_of_batch_norm(model: nn.Module, optimizer: Optimizer) -> None:
    """Batch norm's running statistics belong to the weights of training, not to the averaged ones."""
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    if has_modes(optimizer) and any(m.track_running_stats for m in norms):
        warnings.warn(
            f"{type(optimizer).__name__} judges by averaged weights, and this model's batch norms have "
            "statistics of the others, so validation may look worse than it is. Recompute them with "
            "torch.optim.swa_utils.update_bn after optimizer.eval(), or use another norm.",
            UserWarning,
            stacklevel=2,
        )
