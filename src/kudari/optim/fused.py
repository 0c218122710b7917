"""Clipping, an average of the weights and clearing the gradient, inside the step instead of beside it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TypeVar

from torch import Tensor

from kudari.compile.extend import CLIP, DECAY, Extras
from kudari.errors import ArgumentError
from kudari.optim import sharding
from kudari.optim.hypers import check_hyper
from kudari.optim.optimizer import RuleOptimizer

_O = TypeVar("_O", bound=RuleOptimizer)


def fuse(
    optimizer: _O,
    *,
    clip_norm: float | None = None,
    ema_decay: float | None = None,
    zero_grad: bool = False,
) -> _O:
    """Let the step's own kernels also clip, average the weights, and clear the gradients.

    Each would be another pass over memory: ``clip_grad_norm_`` reads every gradient once and writes it once,
    where a step that clips only reads it once more, and leaves ``p.grad`` as it is.

    Args:
        optimizer: one of ours; changed in place. What it was told before is replaced.
        clip_norm: gradients are scaled so that the norm of all of them together is at most this, as
            ``torch.nn.utils.clip_grad_norm_`` does over all of the optimizer's tensors; None for no limit. It
            is a value of the groups, so a schedule may change it. :func:`grad_norm` tells what was measured.
        ema_decay: keep the moving average ``ema = ema_decay*ema + (1-ema_decay)*p`` of every tensor, starting
            at its value before the first step, in the state ``ema``, float32 at least; from 0 to 1, None for
            none. :func:`averaged` puts it into the model.
        zero_grad: set ``p.grad`` to zero once it is read. ``optimizer.zero_grad()``, which lets go of it,
            costs nothing; this is for gradients whose memory must stay, as in a CUDA graph.

    Returns:
        The optimizer.

    Raises:
        HyperError: a number is outside its range.

    Example:
        >>> import torch, kudari.optim
        >>> w = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer = kudari.optim.fuse(kudari.optim.SGD([w], lr=1.0), clip_norm=1.0)
        >>> w.grad = torch.tensor([3.0, 4.0])
        >>> optimizer.step()
        >>> w.data, kudari.optim.grad_norm(optimizer)
        (tensor([-0.6000, -0.8000]), 5.0)

    Source: Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks, algorithm
    1 (clipping); Polyak, Juditsky 1992, Acceleration of Stochastic Approximation by Averaging.
    """
    values = {CLIP.name: clip_norm, DECAY.name: ema_decay, "zero_grad": zero_grad}
    check_hyper(optimizer.rule, CLIP, clip_norm)
    check_hyper(optimizer.rule, DECAY, ema_decay)
    for group in (optimizer.defaults, *optimizer.param_groups):
        group.update(values)
    return optimizer


def grad_norm(optimizer: RuleOptimizer) -> float | None:
    """The norm of all gradients together at the last step, before clipping.

    Args:
        optimizer: one that clips; see :func:`fuse`.

    Returns:
        None before the first step, or if the optimizer does not clip.
    """
    for part in optimizer._bound.values():
        for binding in part.bindings if "clip_norm" in part.trace.hypers else []:
            first = next(i for i, s in enumerate(binding.program.passes[0].sums) if s.scope == "model")
            return math.sqrt(float(binding.sums_here()[0, first]))
    return None


@contextlib.contextmanager
def averaged(optimizer: RuleOptimizer) -> Iterator[None]:
    """Within the ``with``, the parameters are their averages: for evaluation and saving.

    Args:
        optimizer: one that averages; see :func:`fuse`. It cannot step meanwhile. Buffers such as BatchNorm's
            statistics are the model's own and stay. Under ``fully_shard`` a forward pass without a backward
            pass leaves its gathered weights standing: call ``model.reshard()`` after it.

    Raises:
        ArgumentError: the optimizer keeps no average.

    Example:
        >>> import torch, kudari.optim
        >>> w = torch.nn.Parameter(torch.zeros(1))
        >>> optimizer = kudari.optim.fuse(kudari.optim.SGD([w], lr=1.0), ema_decay=0.75)
        >>> w.grad = torch.ones(1)
        >>> optimizer.step()
        >>> with kudari.optim.averaged(optimizer):
        ...     print(w.data)
        tensor([-0.2500])
        >>> w.data
        tensor([-1.])
    """
    if not any(Extras.of(group).average for group in optimizer.param_groups):
        raise ArgumentError(
            f"This {optimizer.rule.name} keeps no average of the weights.",
            fix="Call kudari.optim.fuse(optimizer, ema_decay=0.999) before training.",
        )
    held: list[tuple[Tensor, Tensor]] = []
    copied: list[tuple[Tensor, Tensor, Tensor]] = []
    try:
        for group in optimizer.param_groups:
            for p in group["params"]:
                average = optimizer.state.get(p, {}).get("ema")
                if average is None:
                    continue
                if sharding.is_sharded(p):
                    # FSDP gathers from the memory it knows; the state says meanwhile where its values are.
                    copied.append((p, sharding.local(p).clone(), average))
                    sharding.local(p).copy_(sharding.local(sharding.cut_like(average, p)))
                    optimizer.state[p]["ema"] = p.detach()
                else:
                    held.append((p, p.data))
                    p.data = average.to(p.dtype)
        yield
    finally:
        for p, own in held:
            p.data = own
        for p, own, average in copied:
            sharding.local(p).copy_(own)
            optimizer.state[p]["ema"] = average
