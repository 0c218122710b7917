"""How states are kept: plain tensors, or a dict with codes and scales, and the way from one to the other.

A coded state stands in ``optimizer.state`` and in checkpoints as a dict of plain tensors and numbers:

- ``code``: uint8, one byte for each element or two elements, in row-major order;
- ``scale``: float32, one for each block;
- ``shape``: int64, of the state (a complex one as reals, two for each element);
- ``bits``, ``block``, ``signed``, ``dynamic``: which codec; see :mod:`kudari.compile.codecs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kudari.compile.codecs import CODE, CODECS, LEAST_PEAK, SHARE, SMALLEST_CODED, Codec, codec_of
from kudari.compile.declarations import State
from kudari.compile.eager import evaluate
from kudari.compile.program import Float, Storage
from kudari.compile.rounding import KAHAN
from kudari.errors import UnsupportedError
from kudari.optim import sharding

STATE_DTYPES = ("fp32", "bf16", "8bit", "4bit", "8bit-dynamic")
FLOATS: dict[torch.dtype, Float] = {
    torch.float64: "f64",
    torch.float32: "f32",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
}

Coded = dict[str, Any]


def real(x: Tensor) -> Tensor:
    """A complex tensor as twice as many reals, sharing memory."""
    return torch.view_as_real(x) if x.is_complex() else x


def is_dense(x: Tensor) -> bool:
    """Whether the elements fill one block of memory without gaps or overlaps, in any order."""
    if x.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which states of such a parameter are kept: float32 at least.

    Example:
        >>> state_dtype(torch.bfloat16), state_dtype(torch.float64)
        (torch.float32, torch.float64)
    """
    if dtype in (torch.complex64, torch.complex128):
        return dtype
    return torch.float64 if dtype is torch.float64 else torch.float32


def kept_as(declared: State, p: Tensor, group: Mapping[str, Any]) -> torch.dtype | Codec:
    """How a state of a parameter is to be kept under a group's ``state_dtype``."""
    full = state_dtype(p.dtype)
    if declared.key == KAHAN.key:
        return p.dtype
    wanted = group.get("state_dtype", "fp32")
    small = declared.scalar or declared.shape != "elements" or declared.every
    if declared.full_precision or small or wanted == "fp32":
        return full
    if wanted == "bf16":
        return full if p.is_complex() else torch.bfloat16
    codec = codec_of(wanted, declared.non_negative, declared.size)
    if sharding.is_sharded(p):  # a block would end where a rank's part does
        return full
    return codec if codec is not None and real(p).numel() >= SMALLEST_CODED else full


def is_coded(value: object) -> bool:
    """Whether a state is a dict with codes and scales."""
    return isinstance(value, dict) and "code" in value and "scale" in value


def codec_in(value: Coded) -> Codec:
    """The codec of a coded state.

    Raises:
        UnsupportedError: it is none that we know.
    """
    found = [value.get(key) for key in ("bits", "block", "signed", "dynamic")] + [value.get("size", 0)]
    for codec in CODECS.values():
        if found == [codec.bits, codec.block, int(codec.signed), *_kind(codec)]:
            return codec
    raise UnsupportedError(
        f"A state is coded with bits, block, signed, dynamic, size = {found}, which is none of our codecs.",
        fix="Load a checkpoint written by this version or an older one.",
    )


def _kind(codec: Codec) -> tuple[int, int]:
    """What bits, block and sign do not tell: whether the map is dynamic, and whether sizes have their own."""
    return int("dynamic" in codec.name), int("size" in codec.name)


def storage(value: Any) -> Storage | None:
    """How programs call the way a state is kept; None for dtypes that kernels do not know."""
    if is_coded(value):
        return codec_in(value).name
    return FLOATS.get(real(torch.empty(0, dtype=value.dtype)).dtype)


def pieces(value: Any) -> list[Tensor]:
    """The tensors that hold a state."""
    return [value["code"], value["scale"]] if is_coded(value) else [value]


def encode(x: Tensor, codec: Codec) -> Coded:
    """Code a tensor.

    Args:
        x: any shape, strides and real or complex dtype; arithmetic is in float32.
        codec: how.
    """
    x = real(x.detach())
    flat = x.to(torch.float32).reshape(-1)
    count, pad = flat.numel(), -flat.numel() % codec.block
    blocks = torch.nn.functional.pad(flat, (0, pad)).view(-1, codec.block)
    peaks = blocks.abs().amax(1, keepdim=True)
    peaks = torch.where(peaks == 0, 0.0, peaks.clamp(min=LEAST_PEAK))
    # Not finite, or so large that the scale would not be.
    peaks = torch.where(peaks <= torch.finfo(torch.float32).max * codec.full, peaks, torch.nan)
    scale = peaks * (1 / codec.full)
    share = blocks.abs() * torch.where(peaks > 0, codec.full / peaks, 0.0)
    share = torch.where(share < codec.full, share, codec.full)
    code = evaluate((codec.encode,), {SHARE.name: share}, {})[0]
    assert isinstance(code, Tensor)
    code = code.round() if codec.shift else code.floor()
    stored = torch.where(blocks < 0, codec.zero - code, codec.zero + code).clamp(min=0).to(torch.uint8)
    return {
        "code": _pack(stored.view(-1)[:count], codec),
        "scale": scale.view(-1).contiguous(),
        "shape": torch.tensor(x.shape, dtype=torch.int64),
        "bits": codec.bits,
        "block": codec.block,
        "signed": int(codec.signed),
        **dict(zip(("dynamic", "size"), _kind(codec), strict=True)),
    }


def decode(value: Coded) -> Tensor:
    """The numbers of a coded state in float32, in its shape."""
    codec, shape = codec_in(value), value["shape"].tolist()
    count = int(value["shape"].prod())
    code = _unpack(value["code"], codec)[:count].to(torch.float32) - codec.zero
    share = evaluate((codec.decode,), {CODE.name: code}, {})[0]
    assert isinstance(share, Tensor)
    scales: Tensor = value["scale"].repeat_interleave(codec.block)
    return (share * scales[:count]).view(shape)


def _pack(stored: Tensor, codec: Codec) -> Tensor:
    if codec.bits == 8:
        return stored.contiguous()
    even = torch.nn.functional.pad(stored, (0, stored.numel() % 2)).view(-1, 2)
    return even[:, 0] | (even[:, 1] << 4)


def _unpack(code: Tensor, codec: Codec) -> Tensor:
    return code if codec.bits == 8 else torch.stack([code & 15, code >> 4], 1).view(-1)


def shape_of(value: Any) -> tuple[int, ...]:
    """Shape of a state; of a coded complex one, as reals."""
    return tuple(value["shape"].tolist()) if is_coded(value) else tuple(value.shape)


def convert(value: Any, p: Tensor, kept: torch.dtype | Codec, copy: bool = False) -> Any:
    """A state in the wanted form, on the parameter's device.

    Args:
        value: plain or coded.
        p: the parameter it belongs to.
        kept: as from :func:`kept_as`.
        copy: whether the result must not share memory with ``value``.
    """
    if not is_coded(value):
        if isinstance(kept, Codec):
            return encode(value.to(p.device), kept)
        return value.detach().to(device=p.device, dtype=kept, copy=copy)
    if isinstance(kept, Codec) and codec_in(value) is kept:
        moved = {k: value[k].detach().to(p.device, copy=copy) for k in ("code", "scale")}
        if not copy and all(moved[k] is value[k] for k in moved):
            return value
        return {**value, **moved, "shape": value["shape"].clone()}
    plain = decode(value)
    plain = torch.view_as_complex(plain) if p.is_complex() else plain
    return convert(plain, p, kept)


def recode(
    name: str, p: Tensor, state: dict[str, Any], declared: Iterable[State], group: Mapping[str, Any]
) -> None:
    """Bring states into the form that the group asks for, where codes are involved.

    It is another one after ``state_dtype`` of a group has been changed, or when a state has been put in its
    place from outside.

    Raises:
        UnsupportedError: a coded state has not the parameter's shape.
    """
    for one in declared:
        value, kept = state[one.key], kept_as(one, p, group)
        if is_coded(value) and shape_of(value) != tuple(real(p).shape):
            raise UnsupportedError(
                f"{name}: state {one.key!r} has shape {shape_of(value)}, "
                f"its parameter {tuple(real(p).shape)}.",
                why="They go together element by element; the parameter or the checkpoint is another one.",
                fix="Load a checkpoint of this model, or delete optimizer.state[p] to start that state anew.",
            )
        if is_coded(value) or isinstance(kept, Codec) or torch.bfloat16 in (kept, value.dtype):
            state[one.key] = convert(value, p, kept)
