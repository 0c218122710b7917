"""Losses that are still on the device, read together."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class LossLedger:
    """Losses of single steps, unread until somebody asks, and their mean since the last log line."""

    def __init__(self) -> None:
        self.unread: list[tuple[Tensor, int]] = []
        """Scalar tensor and number of samples of each step; the loop appends here."""
        self._sum, self._samples = 0.0, 0

    def read(self) -> tuple[int, float] | None:
        """Read all unread losses in one transfer; waits for the device.

        Returns:
            Where one is not finite, how many of the steps come after it, and its value; otherwise None.
        """
        if not self.unread:
            return None
        losses = torch.stack([loss for loss, _ in self.unread]).tolist()
        counts = [samples for _, samples in self.unread]
        self.unread.clear()
        for index, (value, samples) in enumerate(zip(losses, counts, strict=True)):
            if not math.isfinite(value):
                return len(losses) - 1 - index, value
            self._sum += value * samples
            self._samples += samples
        return None

    def mean(self) -> float | None:
        """The mean over all samples read since the last :meth:`start_anew`, None where there are none."""
        return self._sum / self._samples if self._samples else None

    def start_anew(self) -> None:
        """Forget what was read."""
        self._sum, self._samples = 0.0, 0
