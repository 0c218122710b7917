"""Seeds for independent streams of randomness, the same on every machine."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a seed in ``[0, 2**63)`` for one stream of randomness, such as the order of one epoch.

    A hash instead of ``seed + epoch``: neighbouring runs would otherwise share their streams (epoch 1 of
    seed 0 is epoch 0 of seed 1). Python's own ``hash`` differs between processes, so it is not used.

    Args:
        parts: what the stream belongs to, such as ``("order", seed, epoch)``.

    Example:
        >>> derive_seed("order", 0, 1) == derive_seed("order", 0, 1)
        True
        >>> derive_seed("order", 0, 1) == derive_seed("order", 1, 0)
        False
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
