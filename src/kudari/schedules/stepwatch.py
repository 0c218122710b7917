"""Whether an optimizer has taken a step: what a scheduler must know to stay in time with it."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer


class StepWatch:
    """Knows whether the optimizer has taken a step since it was last asked.

    It uses the hooks that torch's optimizers offer, so nothing is replaced. A GradScaler skips in
    two ways: it does not call ``optimizer.step`` at all, or (fused optimizers) it sets ``found_inf`` and the
    optimizer does nothing. Until a first step is seen, a hook on one parameter looks whether its gradient has
    overflowed: once gradients are wiped, nothing else would tell a skipped step from no training.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._ever = False
        self._took_step = False
        self._captured = False
        self._found_inf: list[Tensor] = []
        self._overflowed = False
        me = weakref.ref(self)
        optimizer.register_step_post_hook(_after_step(me))
        trained = (p for group in optimizer.param_groups for p in group["params"])
        first = next((p for p in trained if p.requires_grad and p.is_leaf), None)
        self._handle = (
            first.register_post_accumulate_grad_hook(_after_backward(me)) if first is not None else None
        )

    def saw_step(self) -> None:
        """Called after every ``optimizer.step()``."""
        self._ever = True
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        # A captured step is replayed without a call that anybody could see.
        cuda_in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        if cuda_in_use and torch.cuda.is_current_stream_capturing():
            self._captured = True
        found_inf = getattr(self._optimizer, "found_inf", None)
        if isinstance(found_inf, Tensor):
            self._found_inf.append(found_inf)
        else:
            self._took_step = True

    def saw_backward(self, gradient: Tensor) -> None:
        """Called after a backward pass, until the first step, with the gradient of one parameter."""
        self._overflowed |= not bool(torch.isfinite(_values(gradient)).all())

    def advanced(self) -> bool:
        """Whether to advance; forgets the steps seen so far."""
        took = self._took_step or any(not bool(flag.item()) for flag in self._found_inf)
        overflowed = self._overflowed
        self._took_step, self._found_inf, self._overflowed = False, [], False
        if self._captured:
            return True
        if self._ever:
            return took
        # No step has ever been seen: a loop that only draws the schedule, or an engine that steps in its own
        # way, or a GradScaler that has skipped every step so far, which shows in the gradients.
        return not (overflowed or _gradients_overflow(self._optimizer))


def _after_step(watch: weakref.ref[StepWatch]) -> Callable[..., None]:
    def count(optimizer: Optimizer, args: object, kwargs: object) -> None:
        found = watch()
        if found is not None:
            found.saw_step()

    return count


def _after_backward(watch: weakref.ref[StepWatch]) -> Callable[[Tensor], None]:
    def note(parameter: Tensor) -> None:
        found = watch()
        if found is not None and parameter.grad is not None:
            found.saw_backward(parameter.grad)

    return note


def _values(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _gradients_overflow(optimizer: Optimizer) -> bool:
    grads = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
    return any(not bool(torch.isfinite(_values(grad)).all()) for grad in grads)
