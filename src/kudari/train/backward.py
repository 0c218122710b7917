"""The backward pass without the checks that cannot fail here.

``Tensor.backward`` looks at function overrides, functorch, gradient shapes and compiler settings before it
calls the autograd engine: 20 to 40 µs, a tenth of the whole step of a small model. The loop has checked its
loss, a plain scalar, on the first batch, so it calls the engine as ``Tensor.backward`` would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Backward = Callable[[Tensor, Tensor], object]
_PUBLIC = Tensor.backward
_ENGINE: Any = getattr(getattr(torch.autograd, "Variable", None), "_execution_engine", None)


def choose_backward(model: nn.Module, loss: Tensor) -> Backward:
    """Return ``backward(loss, gradient)``, which adds to ``p.grad`` like ``loss.backward(gradient)``, bit for
    bit.

    The engine is called directly for a plain scalar tensor. Compiled models, tensor subclasses, anomaly
    detection and a ``Tensor.backward`` that somebody watches get the public method.

    Args:
        model: whose loss it is.
        loss: one example.
    """
    plain = (
        type(loss) is Tensor
        and loss.ndim == 0
        and Tensor.backward is _PUBLIC
        and not torch.is_anomaly_enabled()
        and not any(_is_compiled(module) for module in model.modules())
    )
    return _direct_unless_watched if plain and hasattr(_ENGINE, "run_backward") else _public


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _public(loss: Tensor, gradient: Tensor) -> None:
    loss.backward(gradient)  # type: ignore[no-untyped-call]


def _direct_unless_watched(loss: Tensor, gradient: Tensor) -> None:
    # The doctor watches some steps of a run only, so this is asked at each.
    if hasattr(torch.autograd.backward, "__wrapped__"):
        _public(loss, gradient)
    else:
        _direct(loss, gradient)


def _direct(loss: Tensor, gradient: Tensor) -> None:
    _ENGINE.run_backward((loss,), (gradient,), False, False, (), allow_unreachable=True, accumulate_grad=True)
