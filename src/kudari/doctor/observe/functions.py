"""What the doctor replaces of torch's functions and tensor methods while it watches."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.compiler import is_compiling

from kudari.doctor.observe.patching import Patcher, is_traced
from kudari.doctor.observe.stream import Stream
from kudari.doctor.places import caller_site, user_site


def watch_functions(patcher: Patcher, stream: Stream) -> None:
    """Dropout, attention, comparisons and reads of values."""
    functional = nn.functional

    def dropout(original: Any) -> Any:
        @functools.wraps(original)
        def wrapper(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
            # Only where it matters: in passes without gradients.
            if training and p > 0 and not torch.is_grad_enabled() and not is_traced() and not stream.quiet:
                stream.emit("dropout_drawn", float(p), user_site())
            return original(input, p, training, inplace)

        return wrapper

    for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"):
        patcher.replace(functional, name, dropout)

    def attention(original: Any) -> Any:
        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            p = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)
            if p and not torch.is_grad_enabled() and not is_traced() and not stream.quiet:
                stream.emit("dropout_drawn", float(p), user_site())
            return original(*args, **kwargs)

        return wrapper

    patcher.replace(functional, "scaled_dot_product_attention", attention)

    def watch_pair(original: Any) -> Any:
        @functools.wraps(original)
        def compare(self: Any, other: Any, **kwargs: Any) -> Any:
            if is_traced() or stream.quiet or not isinstance(other, torch.Tensor):
                return original(self, other, **kwargs)
            if stream.sampled or not torch.is_grad_enabled():
                stream.emit("compared", self, other, user_site())
            return original(self, other, **kwargs)

        return compare

    def watch_columns(original: Any) -> Any:
        @functools.wraps(original)
        def reduce(self: Any, *args: Any, **kwargs: Any) -> Any:
            if is_traced() or stream.quiet or not (args or kwargs):
                return original(self, *args, **kwargs)
            if stream.sampled or not torch.is_grad_enabled():
                stream.emit("reduced", self, args[0] if args else kwargs.get("dim"), caller_site())
            return original(self, *args, **kwargs)

        return reduce

    def watch_reads(original: Any) -> Any:
        @functools.wraps(original)
        def read(self: Any, *args: Any, **kwargs: Any) -> Any:
            if stream.sampled and not stream.quiet and not is_compiling():  # optimizers read much
                stream.emit("read_to_host", caller_site())
            return original(self, *args, **kwargs)

        return read

    patcher.replace(torch.Tensor, "__eq__", watch_pair)
    patcher.replace(torch.Tensor, "eq", watch_pair)
    patcher.replace(torch, "eq", watch_pair)
    for owner in (torch.Tensor, torch):
        patcher.replace(owner, "argmax", watch_columns)
        patcher.replace(owner, "max", watch_columns)
    for name in ("item", "tolist", "cpu", "__float__", "numpy"):
        patcher.replace(torch.Tensor, name, watch_reads)
