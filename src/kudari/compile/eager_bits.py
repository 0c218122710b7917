"""Operations on the bits of float32 numbers for the eager printer: rounding to 16 bits, and draws for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kudari.compile.expression import shift_offset


def to_bf16(x: Tensor) -> Tensor:
    """The nearest bfloat16, ties to even."""
    return x.to(torch.bfloat16).to(x.dtype)


def to_f16(x: Tensor) -> Tensor:
    """The nearest float16, ties to even."""
    return x.to(torch.float16).to(x.dtype)


def stochastic_bf16(x: Tensor, noise: Tensor) -> Tensor:
    """A neighbouring bfloat16, so that the expectation is x.

    Args:
        x: float32.
        noise: int32, every bit random.
    """
    moved = x.view(torch.int32) + _shift(noise, 16)
    return torch.where(x.isnan(), x, (moved & -0x10000).view(torch.float32))


def stochastic_f16(x: Tensor, noise: Tensor) -> Tensor:
    """A neighbouring float16, so that the expectation is x; see :func:`stochastic_bf16`."""
    size = x.abs()
    power = (size.view(torch.int32) & 0x7F800000).view(torch.float32)
    unit = (power * 2.0**-10).clamp(min=2.0**-24)
    cut = torch.floor(size / unit + _shift(noise, 19) * 2.0**-13) * unit
    return torch.copysign(torch.where(size < 65536.0, cut, size), x)


def drawn_bf16(x: Tensor, key: Tensor) -> Tensor:
    """A neighbouring bfloat16, chosen by a hash of the bits of x and key; see :func:`stochastic_bf16`."""
    x, key = x.to(torch.float32), key.to(torch.float32)
    return stochastic_bf16(x, _mixed(x.view(torch.int32) + key.view(torch.int32) * (0x9E3779B9 - 2**32)))


def dither(x: Tensor) -> Tensor:
    """A number in [0, 1) that looks random and depends on nothing but the bits of x, which is float32."""
    return _shift(_mixed(x.view(torch.int32)), 8) * 2.0**-24


def _mixed(h: Tensor) -> Tensor:
    for shift, factor in ((16, 0x21F0AAAD), (15, 0xD35A2D97 - 2**32), (15, 1)):
        h = (h ^ _shift(h, shift)) * factor
    return h


def shift_root(x: Tensor, n: float, unit: float) -> Tensor:
    """Near ``unit * x**(1/2**n)``, by a shift of the bits; see :data:`kudari.compile.expression.BITS`."""
    return (_shift(x.view(torch.int32), int(n)) + shift_offset(int(n), unit)).view(torch.float32)


def shift_power(x: Tensor, n: float, unit: float, _signed: float) -> Tensor:
    """The inverse of :func:`shift_root`, odd, and 0 at 0."""
    size = (x.view(torch.int32) - shift_offset(int(n), unit)) << int(n)
    return torch.where(x == 0, x, torch.copysign(size.view(torch.float32), x))


def _shift(bits: Tensor, by: int) -> Tensor:
    """Shift right, zeros coming in from the left."""
    return (bits >> by) & ((1 << (32 - by)) - 1)


BITS: dict[str, Callable[..., Tensor]] = {
    "to_bf16": to_bf16,
    "to_f16": to_f16,
    "stochastic_bf16": stochastic_bf16,
    "stochastic_f16": stochastic_f16,
    "drawn_bf16": drawn_bf16,
    "dither": dither,
    "shift_root": shift_root,
    "shift_power": shift_power,
}
