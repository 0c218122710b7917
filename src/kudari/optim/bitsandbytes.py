"""Checkpoints of bitsandbytes: their states under our names.

bitsandbytes keeps, for each tensor, ``state1`` and ``state2`` as codes that are places in the maps ``qmap1``
and ``qmap2``, one absolute maximum a block in ``absmax1`` and ``absmax2``; small tensors as plain numbers.
Ours are the same codes with ``state_dtype="8bit-dynamic"``, which takes them over as they are; every other
``state_dtype`` converts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kudari.compile.codecs import CODE, Codec, codec_of
from kudari.compile.eager import evaluate
from kudari.compile.notation import Rule
from kudari.errors import CheckpointError
from kudari.optim.states import real

_WRAPPED = "__bnb_optimizer_quant_state__"  # how newer versions hide the maps from FSDP


def is_entry(saved: Mapping[str, Any]) -> bool:
    """Whether a tensor's states were written by bitsandbytes."""
    return "state1" in saved


def translate(rule: Rule, p: Tensor, group: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """A tensor's states under our names, coded where our map is theirs, else as plain numbers.

    Args:
        rule: whose states they are; the first tensor state is ``state1``, the second ``state2``. One more
            dimension in front of ``state1`` holds several of our states.
        p: the parameter.
        group: its group.
        saved: its entry in the checkpoint.

    Raises:
        CheckpointError: there are not as many states as the rule has.
    """
    saved = {**saved, **saved.get(_WRAPPED, {})}
    wanted = [s for s in rule.active_states(group) if not s.scalar]
    found: dict[str, Any] = {}
    if rule.counts and "step" in saved:
        found["step"] = torch.tensor(float(saved["step"]), dtype=torch.float32, device="cpu")
    values: list[tuple[Tensor, int]] = []
    for number in (1, 2):
        value = saved.get(f"state{number}")
        if value is not None:
            several = value.dim() == p.dim() + 1
            values += (
                [(_plain(saved, number, value), i) for i in range(len(value))] if several else [(value, -1)]
            )
    if len(values) != len(wanted):
        raise CheckpointError(
            f"{rule.name} keeps {[s.key for s in wanted]}, the bitsandbytes checkpoint {len(values)} states.",
            fix="Load a checkpoint of the same optimizer with the same options.",
        )
    number = 0
    for declared, (value, index) in zip(wanted, values, strict=True):
        if index >= 0:
            found[declared.key], number = value[index], 1
            continue
        number += 1
        codec = codec_of("8bit-dynamic", declared.non_negative)
        assert codec is not None
        same = f"qmap{number}" in saved and _same(saved, number, value, codec)
        found[declared.key] = _coded(saved, number, value, p, codec) if same else _plain(saved, number, value)
    return found


def _same(saved: Mapping[str, Any], number: int, value: Tensor, codec: Codec) -> bool:
    """Whether map and blocks are those of our codec."""
    code = torch.arange(256, dtype=torch.float32) - codec.zero
    ours = evaluate((codec.decode,), {CODE.name: code}, {})[0]
    assert isinstance(ours, Tensor)
    theirs = saved[f"qmap{number}"].detach().to("cpu", torch.float32)
    close = theirs.shape == ours.shape and bool(torch.allclose(theirs, ours, rtol=1e-5, atol=1e-9))
    return close and saved[f"absmax{number}"].numel() == codec.blocks(value.numel())


def _coded(saved: Mapping[str, Any], number: int, value: Tensor, p: Tensor, codec: Codec) -> dict[str, Any]:
    return {
        "code": value.detach().reshape(-1),
        "scale": saved[f"absmax{number}"].detach().to(torch.float32),
        "shape": torch.tensor(real(p.detach()).shape, dtype=torch.int64),
        "bits": codec.bits,
        "block": codec.block,
        "signed": int(codec.signed),
        "dynamic": 1,
    }


def _plain(saved: Mapping[str, Any], number: int, value: Tensor) -> Tensor:
    """The numbers of a state; it may not be coded at all."""
    qmap, absmax = saved.get(f"qmap{number}"), saved.get(f"absmax{number}")
    if qmap is None or absmax is None or value.dtype is not torch.uint8:
        return value
    count = value.numel()
    # Blocks of 2048 in older versions, 256 in newer ones: the number of maxima tells.
    block = next(size for size in (256, 2048, 4096, max(1, count)) if -(-count // size) == absmax.numel())
    share: Tensor = qmap.to(value.device)[value.reshape(-1).long()]
    scales: Tensor = absmax.repeat_interleave(block)
    return (share * scales[:count]).view(value.shape)
