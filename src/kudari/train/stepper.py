"""One optimizer step: forward, loss, backward, learning rate, update. Nothing in it waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kudari.optim import RuleOptimizer
from kudari.train.backward import Backward, choose_backward
from kudari.train.curvature import EVERY, curvature_of, twice_differentiable
from kudari.train.feeds import Batch
from kudari.train.losses import Loss
from kudari.train.update import Rate


class Stepper:
    """Take steps.

    Args:
        model, loss, optimizer, rate: what a step is made of.
        clip_norm: largest gradient norm, None for no limit.
        precision: context of each forward pass, None for none.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        rate: Rate,
        clip_norm: float | None,
        precision: Callable[[], AbstractContextManager[object]] | None,
    ) -> None:
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.last: tuple[Tensor, Tensor] | None = None
        """Outputs and targets of the newest micro-batch."""
        self._model, self._loss, self._clip_norm, self._precision = model, loss, clip_norm, precision
        if clip_norm is not None and isinstance(optimizer, RuleOptimizer):
            for group in optimizer.param_groups:  # its own step clips; see kudari.optim.fuse
                group["clip_norm"] = clip_norm
            self._clip_norm = None
        self._update, self._write_rate = optimizer.step, rate.write
        self._curvature = curvature_of(optimizer, loss)
        self._norm: Tensor | None = None
        self._backward: Backward | None = None
        self._one = torch.ones(())

    def take(self, step: int, batches: tuple[Batch, ...]) -> tuple[Tensor, int]:
        """Take the step with this number, counted from 0.

        Returns:
            The mean loss over the step's samples, a scalar tensor on the device, and the number of samples.
        """
        for p in self.params:
            p.grad = None
        self.last = None  # outputs may be large
        if len(batches) == 1:
            ((x, y),) = batches
            outputs, loss = self._forward(x, y)
            if self._backward is None:
                self._choose_backward(loss)
            self._backward(loss, self._one)  # type: ignore[misc]
            loss, samples = loss.detach(), y.shape[0]
            self.last = (outputs, y)
        else:
            loss, samples = self._accumulate(batches)
        if self._clip_norm is not None:
            self._norm = nn.utils.clip_grad_norm_(self.params, self._clip_norm)
        self._write_rate(step)
        self._update()
        if self._curvature is not None and step % EVERY == EVERY - 1:
            with twice_differentiable():
                self._curvature(*self._forward(*batches[-1]))
        return loss, samples

    def _forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self._precision is None:
            outputs = self._model(x)
            return outputs, self._loss.compute(outputs, y)
        with self._precision():
            outputs = self._model(x)
            return outputs, self._loss.compute(outputs, y)

    def _choose_backward(self, loss: Tensor) -> None:
        self._backward = choose_backward(self._model, loss)
        self._one = torch.ones_like(loss)

    def _accumulate(self, batches: tuple[Batch, ...]) -> tuple[Tensor, int]:
        """Weigh each micro-batch by what its mean is a mean over; the mean of means has another gradient."""
        weights = torch.stack(
            [torch.as_tensor(self._loss.weight(y), dtype=torch.float32, device=y.device) for _, y in batches]
        )
        shares = (weights / weights.sum()).unbind()
        losses = []
        for (x, y), share in zip(batches, shares, strict=True):
            outputs, loss = self._forward(x, y)
            if self._backward is None:
                self._choose_backward(loss)
            self._backward(loss, share.to(loss.dtype))  # type: ignore[misc]
            losses.append(loss.detach() * share)
            self.last = (outputs.detach(), y)
        return torch.stack(losses).sum(), sum(y.shape[0] for _, y in batches)

    def gradient_norms(self) -> Tensor:
        """Return norms whose own norm is that of the newest gradient, before clipping; on the device."""
        if self._norm is not None:
            return self._norm.reshape(1)
        grads = [
            g.coalesce().values() if g.is_sparse else g for p in self.params if (g := p.grad) is not None
        ]
        return torch.stack(torch._foreach_norm(grads)) if grads else torch.zeros(1)

    @torch.no_grad()
    def weights_are_finite(self) -> bool:
        """Whether every trained weight is a finite number; waits for the device."""
        return bool(torch.isfinite(nn.utils.get_total_norm(self.params)))
