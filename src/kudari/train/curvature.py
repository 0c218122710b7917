"""Curvature for optimizers that ask for it: every tenth step, from the step's own samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from kudari.errors import ArgumentError
from kudari.optim.faces import EstimatedHessianOptimizer, GradientHessianOptimizer
from kudari.train.losses import Loss

EVERY = 10
"""Steps from one estimate to the next: Liu et al. 2023, Sophia, section 2.3."""

Curvature = Callable[[Tensor, Tensor], None]


def curvature_of(optimizer: Optimizer, loss: Loss) -> Curvature | None:
    """Return what is to be done with outputs and loss of a fresh forward pass; None for most optimizers.

    SophiaH takes a product with the Hessian of the loss. SophiaG takes gradients of the loss on labels that
    are sampled from the model's predictions; its ``bs`` becomes their number. ``p.grad`` stays as it is.

    Raises:
        ArgumentError: labels have to be sampled, and the loss is not one of class probabilities.
    """
    if isinstance(optimizer, EstimatedHessianOptimizer):
        return lambda _, value: optimizer.update_hessian(value)
    if not isinstance(optimizer, GradientHessianOptimizer):
        return None
    two = loss.name in ("bce", "BCEWithLogitsLoss")
    if loss.kind != "classes" and not two:
        raise ArgumentError(
            f"{optimizer.rule.name} samples labels from the model's predictions; with {loss.name} it cannot.",
            why="Its curvature is that of a likelihood of classes.",
            fix="Use sophiah, which needs nothing but the loss, or loss='cross_entropy' for classes.",
        )
    return lambda outputs, _: _from_sampled_labels(optimizer, outputs, two)


def _from_sampled_labels(optimizer: GradientHessianOptimizer, outputs: Tensor, two: bool) -> None:
    with torch.no_grad():
        chances = outputs.float().sigmoid() if two else outputs.float().softmax(1)
        if two:
            labels = torch.bernoulli(chances)
        else:
            rows = chances.movedim(1, -1)
            labels = torch.multinomial(rows.reshape(-1, rows.shape[-1]), 1).view(rows.shape[:-1])
    value = (
        F.binary_cross_entropy_with_logits(outputs, labels.to(outputs.dtype))
        if two
        else F.cross_entropy(outputs, labels)
    )
    tensors = [p for group in optimizer.param_groups for p in group["params"]]
    kept = [p.grad for p in tensors]
    try:
        for p in tensors:
            p.grad = None
        value.backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["bs"] = labels.numel()
        optimizer.update_hessian()
    finally:
        for p, grad in zip(tensors, kept, strict=True):
            p.grad = grad


def twice_differentiable() -> AbstractContextManager[None]:
    """A context in which attention can be differentiated twice; its fast kernels cannot."""
    found: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return found
