"""Nine tasks that were held out from an earlier learning-rate rule; the rule now was made looking at them."""

from __future__ import annotations

import functools

import numpy as np
import sklearn.datasets
import torch
import torch.nn.functional as F
from benchmarks.tune.more_tasks import library, photo, windows
from benchmarks.tune.tasks import (
    CONTEXT,
    VOCABULARY,
    Pair,
    Task,
    digits,
    learned,
    next_character,
    raw,
    seeded,
    split,
)
from torch import Tensor, nn

from kudari import models


@functools.cache
def eights() -> tuple[Pair, Pair]:
    """Whether a digit is an 8: one in ten is."""
    x, y = digits()
    return split(x, (y == 8).astype(np.int64))


@functools.cache
def alcohol() -> tuple[Pair, Pair]:
    """The first column of the wines, standardised, from the other twelve as they were measured."""
    found = sklearn.datasets.load_wine().data.astype(np.float32)
    y = (found[:, :1] - found[:, :1].mean()) / found[:, :1].std()
    return split(found[:, 1:].copy(), y)


@functools.cache
def itself() -> tuple[Pair, Pair]:
    x, _ = digits()
    return split(x, x)


@functools.cache
def places() -> tuple[Pair, Pair]:
    """Colour patches (3, 10, 10) of two photographs, and which quarter of which photograph they are from."""
    patches, labels = [], []
    for number, name in enumerate(("china.jpg", "flower.jpg")):
        picture = photo(name)
        height, width, _ = picture.shape
        for top in range(0, height - 10, 5):
            for left in range(0, width - 10, 5):
                patches.append(picture[top : top + 10, left : left + 10].transpose(2, 0, 1) * 4 - 2)
                labels.append(4 * number + 2 * (top > height // 2) + (left > width // 2))
    return split(np.stack(patches).astype(np.float32), np.array(labels))


@functools.cache
def lines() -> tuple[Pair, Pair]:
    """Twenty pixels of a line of a photograph, and each one's right neighbour."""
    picture = photo("flower.jpg") * 4 - 2
    starts = range(0, picture.shape[1] - 21, 7)
    rows = np.stack([row[at : at + 21] for row in picture for at in starts]).astype(np.float32)
    return split(rows[:, :-1].copy(), rows[:, 1:].copy())


@functools.cache
def upside_down() -> tuple[Pair, Pair]:
    x, y = digits()
    return split(x.reshape(-1, 1, 8, 8)[:, :, ::-1].copy(), y)


@functools.cache
def upright() -> tuple[Pair, Pair]:
    x, y = digits()
    return split(x.reshape(-1, 1, 8, 8), y)


@functools.cache
def patched() -> tuple[Pair, Pair]:
    """A digit as sixteen patches of four pixels."""
    x, y = digits()
    parts = x.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 4)
    return split(parts.copy(), y)


@functools.cache
def code() -> tuple[Pair, Pair]:
    """Windows of the modules of Python's library from e to h."""
    found = windows(library("e-h"), 3_000, CONTEXT + 1)
    return split(found[:, :-1], found[:, 1:])


class Places(nn.Module):
    """Two strided convolutions with group norm, the mean over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 16, 3, stride=2)
        self.norms = nn.ModuleList([nn.GroupNorm(3, 12), nn.GroupNorm(4, 16)])
        self.head = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 3, 10, 10) to logits (batch, 8)."""
        h = F.silu(self.norms[0](self.first(x)))
        return self.head(F.silu(self.norms[1](self.second(h))).mean((-2, -1)))


class Lines(nn.Module):
    """A GRU over pixels, 24 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.GRU(3, 24, batch_first=True), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 20, 3) to the same shape."""
        return self.head(self.body(x)[0])


class Looker(nn.Module):
    """One attention block over patches without any norm; the mean of all places decides."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.inward, self.place = nn.Linear(4, width), nn.Parameter(0.1 * torch.randn(16, width))
        self.look = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down, self.head = (
            nn.Linear(width, 48),
            nn.Linear(48, width),
            nn.Linear(width, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 16, 4) to logits (batch, 10)."""
        h = self.inward(x) + self.place
        h = h + self.look(h, h, h, need_weights=False)[0]
        return self.head((h + self.down(F.relu(self.up(h)))).mean(1))


class Causal(nn.Module):
    """Characters by three dilated convolutions that only look back, 32 wide, with residuals."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.letters, self.head = nn.Embedding(VOCABULARY, width), nn.Linear(width, VOCABULARY)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2**i) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (batch, CONTEXT) to logits (batch, CONTEXT, VOCABULARY)."""
        h = self.letters(x).mT
        for i, layer in enumerate(self.layers):
            h = h + F.gelu(layer(F.pad(h, (2**i, 0))))
        return self.head(h.mT)


def residual() -> nn.Module:
    return models.cnn(1, 10, width=4, depth=1)


@functools.cache
def seen_upright(seed: int) -> dict[str, Tensor]:
    """Weights and statistics of a residual network that has learned digits."""
    model = seeded(residual)(seed)
    return learned(model, upright()[0], F.cross_entropy, 1e-2, 200, 32, seed)


def turned(seed: int) -> nn.Module:
    """The network that knows upright digits, head included."""
    model = residual()
    model.load_state_dict(seen_upright(seed))
    return model


ONCE_HELD_OUT = (
    Task("iris", "classification: 4 unnormalised columns, 112 samples, MLP 4-16-16-3", True,
         seeded(lambda: models.mlp(4, [16, 16], 3)), functools.partial(raw, "iris"),
         steps=240, batch_size=12),
    Task("eights", "imbalanced classification: one class has a tenth, MLP 64-48-2", True,
         seeded(lambda: models.mlp(64, [48], 2, activation="silu")), eights, "cross_entropy", 250, 24),
    Task("alcohol", "regression: 12 unnormalised columns, MLP 12-32-32-1", True,
         seeded(lambda: models.mlp(12, [32, 32], 1, activation="gelu")), alcohol, "mse", 300, 16),
    Task("itself", "autoencoder of digits, MLP 64-32-6-32-64", True,
         seeded(lambda: models.mlp(64, [32, 6, 32], 64, activation="gelu")), itself, "mse", 400, 32),
    Task("places", "classification: where a patch is from, CNN with group norm", True,
         seeded(Places), places, "cross_entropy", 250, 16),
    Task("lines", "sequence regression: the next pixel of a line, GRU", True,
         seeded(Lines), lines, "mse", 250, 16),
    Task("patched", "classification: digits in patches, attention without norm", True,
         seeded(Looker), patched, "cross_entropy", 300, 32),
    Task("causal", "characters of Python's library, dilated convolutions", True,
         seeded(Causal), code, next_character, 250, 8),
    Task("turned", "fine-tuning: residual CNN that knows digits, then upside down", True,
         turned, upside_down, "cross_entropy", 150, 24, "finetuning"),
)  # fmt: skip
