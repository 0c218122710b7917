"""How many CPU threads a run uses, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kudari.errors import ArgumentError

FLOPS_PER_THREAD = 500_000_000
"""Floating-point operations of one step that earn one thread.

Measured on 2 cores with MLPs of 4 MFLOP to 52 GFLOP a step: a second thread gains 1.0x at 4 MFLOP, 1.4x at
170 MFLOP and 1.6x at 1.3 GFLOP on a quiet machine, and beside one busy process it costs 7x, 4x and 2x,
because every parallel region waits for the thread that has no core. Below 1 GFLOP there is more to lose than
to win.
"""

BACKWARD_FACTOR = 3
"""A forward and a backward pass do about three times the work of the forward pass."""


@dataclass(frozen=True)
class ThreadPlan:
    """Number of intra-op threads and the reason, one sentence."""

    count: int
    why: str


def plan_threads(
    requested: int | Literal["auto"], flops_per_step: int, device: torch.device, available: int | None = None
) -> ThreadPlan:
    """Choose torch's intra-op threads for a run.

    Args:
        requested: ``"auto"`` or a number, 1 or more.
        flops_per_step: counted floating-point operations of one optimizer step, forward and backward.
        device: where the model is.
        available: threads that may be used; None asks torch and the operating system.

    Raises:
        ArgumentError: where ``requested`` is neither.

    Example:
        >>> plan_threads("auto", 4_000_000, torch.device("cpu"), available=8).count
        1
        >>> plan_threads("auto", 2_200_000_000, torch.device("cpu"), available=8).count
        4
    """
    if isinstance(requested, bool) or (
        requested != "auto" and (not isinstance(requested, int) or requested < 1)
    ):
        raise ArgumentError(
            f"threads={requested!r} is neither 'auto' nor a number of 1 or more.",
            fix="Pass threads='auto' or 1.",
        )
    if requested != "auto":
        return ThreadPlan(requested, "asked for")
    available = available or available_threads()
    if device.type != "cpu":
        return ThreadPlan(available, f"the step runs on {device.type}")
    count = max(1, min(available, flops_per_step // FLOPS_PER_THREAD))
    work = f"a step is {flops_per_step / 1e6:,.3g} MFLOP"
    if available == 1:
        return ThreadPlan(1, "one is available")
    if count == available:
        return ThreadPlan(count, f"{work}, enough for all {available}")
    return ThreadPlan(count, f"{work}; every further thread would need {FLOPS_PER_THREAD / 1e6:,.0f} MFLOP")


def available_threads() -> int:
    """Return torch's thread setting, or the cores this process may use where those are fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores))


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Set torch's intra-op threads inside the block; the old setting returns afterwards."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def count_flops(forward: Callable[[], object]) -> int:
    """Count the multiplications and additions of matrix products and convolutions in one call.

    Products hidden in compiled or custom operators are not seen: an estimate for choosing threads, not a
    benchmark. ``torch.utils.flop_counter`` sees more and costs seconds of imports at its first use, which a
    run of seconds cannot pay.

    Example:
        >>> count_flops(lambda: torch.nn.functional.linear(torch.zeros(4, 10), torch.zeros(3, 10)))
        240
    """
    with _FlopCounter() as counter:
        forward()
    return int(counter.flops)


class _FlopCounter(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = _FORMULAS.get(getattr(func, "__name__", ""))
        if formula is not None and len(args) > 1:
            self.flops += formula(out, args)
        return out


def _product(out: Tensor, args: Any) -> int:
    return 2 * int(out.numel()) * int(args[0].shape[-1])


def _added_product(out: Tensor, args: Any) -> int:
    return 2 * int(out.numel()) * int(args[1].shape[-1])


def _convolution(out: Tensor, args: Any) -> int:
    return 2 * int(out.numel()) * int(args[1][0].numel())


def _transposed_convolution(out: Tensor, args: Any) -> int:
    return 2 * int(args[0].numel()) * int(args[1][0].numel())


def _attention(out: Tensor, args: Any) -> int:
    return 4 * int(args[0].numel()) * int(args[1].shape[-2])


def _multi_head_attention(out: Any, args: Any) -> int:
    query, key = args[0], args[1]
    width, tokens = int(query.shape[-1]), int(query.numel()) // int(query.shape[-1])
    return 8 * tokens * width * width + 4 * tokens * int(key.shape[0]) * width


def _recurrent(out: Any, args: Any) -> int:
    weights = next((a for a in args if isinstance(a, (list, tuple)) and len(a) > 2), ())
    tokens = int(out[0].numel()) // int(out[0].shape[-1])
    return 2 * tokens * sum(int(w.numel()) for w in weights)


_FORMULAS: dict[str, Callable[[Any, Any], int]] = {
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "mv", "__matmul__"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), _added_product),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed_convolution),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
}
