"""Random changes of whole batches. Each is a plain callable; write your own the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kudari.errors import ArgumentError


class Augment(Protocol):
    """Anything that maps a batch to a changed batch, drawing only from ``generator``.

    ``generator`` is seeded by (seed, step), so the result depends on nothing else. The tensors passed in
    are views of the data: return new ones.
    """

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]: ...


def _require_pictures(x: Tensor, name: str) -> None:
    if x.ndim != 4:
        raise ArgumentError(
            f"{name}: a batch of shape {tuple(x.shape)} is not (batch, channels, height, width).",
            fix="Use it for pictures only.",
        )


@dataclass(frozen=True)
class RandomShift:
    """See :func:`random_shift`."""

    pixels: int

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        _require_pictures(x, "random_shift")
        batch, channels, height, width = x.shape
        low, high, device = -self.pixels, self.pixels + 1, x.device
        shift = torch.randint(low, high, (2, batch, 1), generator=generator, device=device)
        rows = (torch.arange(height, device=device) + shift[0]).clamp_(0, height - 1)
        columns = (torch.arange(width, device=device) + shift[1]).clamp_(0, width - 1)
        places = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, height * width)
        return x.flatten(2).gather(2, places.expand(-1, channels, -1)).view(x.shape), y


@dataclass(frozen=True)
class RandomFlip:
    """See :func:`random_flip`."""

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        _require_pictures(x, "random_flip")
        flipped = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device) < 0.5
        return torch.where(flipped, x.flip(-1), x), y


@dataclass(frozen=True)
class Compose:
    """See :func:`compose`."""

    parts: tuple[Augment, ...]

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        for part in self.parts:
            x, y = part(x, y, generator)
        return x, y


def random_shift(pixels: int) -> Augment:
    """Move every picture by up to ``pixels`` up or down and left or right; borders repeat the edge.

    Args:
        pixels: largest shift, 1 or more. All whole shifts are equally likely.

    Raises:
        ArgumentError: where ``pixels`` is below 1, or a batch is not (batch, channels, height, width).

    Example:
        >>> x, y = torch.rand(2, 1, 8, 8), torch.tensor([0, 1])
        >>> shifted, same = random_shift(1)(x, y, torch.Generator().manual_seed(0))
        >>> shifted.shape
        torch.Size([2, 1, 8, 8])
    """
    if pixels < 1:
        raise ArgumentError(
            f"random_shift: pixels={pixels} is below 1.", fix="Pass 1 or more, or leave the shift out."
        )
    return RandomShift(pixels)


def random_flip() -> Augment:
    """Mirror half of the pictures left to right.

    Not for pictures in which left and right mean something, such as digits and letters.

    Example:
        >>> x, y = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
        >>> random_flip()(x, y, torch.Generator().manual_seed(0))[0].shape
        torch.Size([2, 3, 8, 8])
    """
    return RandomFlip()


def compose(*parts: Augment) -> Augment:
    """Apply several augmentations, the first one first.

    Example:
        >>> compose(random_flip(), random_shift(2)).parts[1]
        RandomShift(pixels=2)
    """
    return Compose(parts)
