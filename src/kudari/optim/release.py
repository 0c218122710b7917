"""The step inside the backward pass: a gradient is used and let go as soon as it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kudari.compile.extend import CLIP, CLIP_EPS, Extras, extend
from kudari.errors import UnsupportedError
from kudari.optim import sharding
from kudari.optim.bound_group import BoundGroup
from kudari.optim.describe import programs
from kudari.optim.hypers import check_hyper
from kudari.optim.optimizer import RuleOptimizer
from kudari.optim.states import real


class GradientRelease:
    """Steps taken tensor by tensor while the backward pass goes on: never all gradients are in memory.

    The loop stays as it is: ``optimizer.step()`` after the backward pass finds no gradients left and only
    counts (Schedule-Free's averages, schedulers). The numbers are those of the ordinary step.

    Args:
        optimizer: one of ours, over all tensors to be trained. One process, no GradScaler: both settle what
            the gradient is only after the whole backward pass.

    Raises:
        UnsupportedError: the rule needs a sum over all gradients before anything moves, or a parameter is
            sharded.

    Example:
        >>> import torch, kudari.optim
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = kudari.optim.AdamW(model.parameters())
        >>> release = kudari.optim.GradientRelease(optimizer)
        >>> with release.accumulate():
        ...     model(torch.ones(4, 2)).mean().backward()      # gradients add up
        >>> model(torch.zeros(4, 2)).mean().backward()         # the step is taken here
        >>> model.weight.grad is None, int(optimizer.state[model.weight]["step"])
        (True, 1)
        >>> release.remove()

    Source: Lv et al. 2023, Full Parameter Fine-tuning for Large Language Models with Limited Resources.
    """

    def __init__(self, optimizer: RuleOptimizer) -> None:
        for group in optimizer.param_groups:
            _refuse_model_sums(optimizer, group)
            _refuse_sharded(optimizer, group)
        self._optimizer = optimizer
        self._bound: dict[Tensor, tuple[BoundGroup, dict[str, Any]]] = {}
        self._accumulating = False
        self._squares: list[Tensor] | None = None
        self._held: dict[Tensor, Tensor] = {}
        self._measured: set[Tensor] = set()
        self._scale: Tensor | None = None
        tensors = [(p, group) for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self._handles = [p.register_post_accumulate_grad_hook(self._hook(group)) for p, group in tensors]

    def remove(self) -> None:
        """Take ordinary steps again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._bound.clear()

    @contextlib.contextmanager
    def accumulate(self) -> Iterator[None]:
        """Backward passes within the ``with`` only add to the gradients; the next one outside it steps."""
        before, self._accumulating = self._accumulating, True
        try:
            yield
        finally:
            self._accumulating = before

    def backward(self, loss: Tensor, clip_norm: float) -> Tensor:
        """Step with gradients clipped to a global norm, going back twice: to measure, and to step.

        Args:
            loss: one number with its graph; the graph cannot be used again.
            clip_norm: largest norm of all gradients together, those accumulated before included.

        Returns:
            The norm before clipping, a float64 tensor without dimensions.

        Raises:
            HyperError: the limit is negative.
        """
        check_hyper(self._optimizer.rule, CLIP, clip_norm)
        total = self._measure_all(loss)
        # What the step divides gradients by.
        self._scale = torch.clamp((total + CLIP_EPS) / clip_norm if clip_norm else total + torch.inf, min=1.0)
        try:
            torch.autograd.backward(loss)
            for group in self._optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:  # accumulated before, and not reached by this loss
                        self._step(p, group)
        finally:
            self._scale = None
        return total

    def _measure_all(self, loss: Tensor) -> Tensor:
        """The norm of all gradients together; those accumulated before are held, the new ones let go."""
        tensors = [p for group in self._optimizer.param_groups for p in group["params"]]
        self._held = {p: p.grad for p in tensors if p.grad is not None}
        self._squares, self._measured = [torch.zeros((), dtype=torch.float64)], set()
        try:
            for p in self._held:
                p.grad = None
            torch.autograd.backward(loss, retain_graph=True)
            self._squares += [_square(g) for p, g in self._held.items() if p not in self._measured]
            return torch.stack([s.cpu() for s in self._squares]).sum().sqrt()
        finally:
            for p, g in self._held.items():
                p.grad = g
            self._squares, self._held = None, {}

    def _hook(self, group: dict[str, Any]) -> Any:
        def hook(p: Tensor) -> None:
            if self._squares is not None:
                self._measure(p)
            elif not self._accumulating:
                self._step(p, group)

        return hook

    def _measure(self, p: Tensor) -> None:
        """Take a gradient's share of the norm and let go of it."""
        assert p.grad is not None and self._squares is not None
        held = self._held.get(p)
        self._squares.append(_square(p.grad if held is None else p.grad + held))
        self._measured.add(p)
        p.grad = None

    @torch.no_grad()
    def _step(self, p: Tensor, group: dict[str, Any]) -> None:
        """Take the step of one tensor, and let go of its gradient."""
        alone = {**group, "params": [p]}
        bound, entry = self._bound.get(p, (None, None))
        same = entry is self._optimizer.state.get(p)
        if bound is None or not same or not bound.prepare(alone, self._scale):
            bound = BoundGroup(self._optimizer, alone, self._scale is not None)
            bound.prepare_first(alone, self._scale)
            self._bound[p] = bound, self._optimizer.state[p]
        bound.run()
        p.grad = None


def _square(g: Tensor) -> Tensor:
    return real(g.detach()).double().square().sum()


def _refuse_sharded(optimizer: RuleOptimizer, group: dict[str, Any]) -> None:
    for p in group["params"]:
        if sharding.is_sharded(p):
            raise UnsupportedError(
                f"{optimizer.rule.name}: a parameter of shape {tuple(p.shape)} is sharded.",
                why="Its gradient is ready only when the ranks have exchanged theirs.",
                fix="Call optimizer.step() after the backward pass.",
            )


def _refuse_model_sums(optimizer: RuleOptimizer, group: dict[str, Any]) -> None:
    if any(p.over_model for p in programs(extend(optimizer.rule, Extras.of(group)), group)):
        raise UnsupportedError(
            f"{optimizer.rule.name} cannot step during the backward pass.",
            why="It needs a sum over all gradients before it moves anything.",
            fix="Take ordinary steps; to clip, use GradientRelease.backward(loss, clip_norm=...), not fuse.",
        )
