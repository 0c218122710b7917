"""Randomness of a step as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from kudari.data import derive_seed

_LOW = 0xFFFFFFFF


def step_seed(seed: int, step: int) -> int:
    """Return the seed of one optimizer step, in ``[0, 2**63)``, the same on every machine.

    torch's CPU generator uses the low 32 bits only, so these are a permutation of the step number: within one
    run no two of the first 2**32 steps share their random numbers. The mixer is the two-round "lowbias32" of
    Wellons (2018).

    Args:
        seed: seed of the run, 0 or more.
        step: optimizer steps done before this one, 0 or more.

    Example:
        >>> step_seed(0, 1) == step_seed(0, 1), step_seed(0, 1) == step_seed(0, 2)
        (True, False)
    """
    return _mix(derive_seed("step", seed), step)


def _mix(key: int, step: int) -> int:
    z = (step + key) & _LOW
    z = ((z ^ (z >> 16)) * 0x7FEB352D) & _LOW
    z = ((z ^ (z >> 15)) * 0x846CA68B) & _LOW
    return (key & ~_LOW) | (z ^ (z >> 16))


def step_seeder(seed: int, device: torch.device) -> Callable[[int], None]:
    """Return a function that seeds torch's default generators, CPU and device, for a step; about 2 µs.

    Dropout and any augmentation that draws from torch's default generator thereby become pure functions of
    (seed, step): nothing has to be stored or replayed to resume. Python's ``random`` and NumPy are left
    alone.
    """
    key = derive_seed("step", seed)
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])

    def seed_step(step: int) -> None:
        value = _mix(key, step)
        for generator in generators:
            generator.manual_seed(value)
        if device.type == "mps":
            torch.mps.manual_seed(value)

    return seed_step


@contextmanager
def preserved_rng(device: torch.device) -> Iterator[None]:
    """Give torch's default generators back the state they had before the block."""
    cpu = torch.get_rng_state()
    accelerator = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if accelerator is not None:
            torch.cuda.set_rng_state(accelerator, device)
        if mps is not None:
            torch.mps.set_rng_state(mps)
