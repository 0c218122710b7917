"""Eight tasks first looked at after the learning-rate rule was frozen: their cells were measured once.

Four of them are longer than most of those the rule was made on.
"""

from __future__ import annotations

import functools
import keyword

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.tune.more_tasks import library, photo, windows
from benchmarks.tune.tasks import (
    CONTEXT,
    VOCABULARY,
    Pair,
    Task,
    digits,
    digits_flat,
    lower_half,
    next_character,
    on_a_body,
    raw,
    seeded,
    split,
)
from benchmarks.tune.then_held_out import Encoder
from torch import Tensor, nn

from kudari import models


@functools.cache
def keywords() -> tuple[Pair, Pair]:
    """Windows of 32 characters, and whether a whole keyword of Python is in them."""
    code = library("t-z")
    starts = np.random.default_rng(7).permutation(len(code) - 32)[:6_000]
    cut = [code[i : i + 32] for i in starts]
    label = [any(word in keyword.kwlist for word in piece.split()[1:-1]) for piece in cut]
    x = np.concatenate([windows(piece + " ", 1, 32) for piece in cut])
    return split(x, np.array(label, np.int64))


@functools.cache
def more_letters() -> tuple[Pair, Pair]:
    found = windows(library("e-h"), 8_000, CONTEXT + 1)
    return split(found[:, :-1], found[:, 1:])


@functools.cache
def blues() -> tuple[Pair, Pair]:
    """Red and green of a patch (2, 12, 12) of two photographs, and its blue."""
    patches = []
    for name in ("china.jpg", "flower.jpg"):
        picture = photo(name) * 4 - 2
        tops, lefts = range(0, picture.shape[0] - 12, 6), range(0, picture.shape[1] - 12, 6)
        patches += [picture[i : i + 12, j : j + 12].transpose(2, 0, 1) for i in tops for j in lefts]
    found = np.stack(patches).astype(np.float32)
    return split(found[:, :2].copy(), found[:, 2:].copy())


@functools.cache
def sums() -> tuple[Pair, Pair]:
    """Two digits (2, 8, 8), and the sum of what they say, standardised; the same digits on neither side."""
    pairs = []
    for (x, y), count, seed in zip(digits_flat(), (4_000, 1_000), (8, 9), strict=True):
        draw = torch.Generator().manual_seed(seed)
        a, b = torch.randint(len(x), (2, count), generator=draw)
        both = torch.stack([x[a], x[b]], 1).view(-1, 2, 8, 8)
        pairs.append((both, ((y[a] + y[b]).float().unsqueeze(1) - 9) / 4))
    return pairs[0], pairs[1]


@functools.cache
def which_and_how_much() -> tuple[Pair, Pair]:
    """A digit, and (which, how much ink, standardised)."""
    x, y = digits()
    ink = x.mean(1)
    return split(x, np.stack([y, (ink - ink.mean()) / ink.std()], 1).astype(np.float32))


def both_losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of ten logits and the squared error of the eleventh output."""
    which = F.cross_entropy(outputs[:, :10], targets[:, 0].long())
    return which + F.mse_loss(outputs[:, 10], targets[:, 1])


def reader() -> nn.Module:
    return Encoder(nn.Embedding(VOCABULARY, 32), 32, 32, 4, 64, 2, norm_first=True)


class TwoLayers(nn.Module):
    """A GRU of two layers over characters, 40 wide."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.letters, self.head = nn.Embedding(VOCABULARY, width), nn.Linear(width, VOCABULARY)
        self.body = nn.GRU(width, width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (batch, CONTEXT) to logits (batch, CONTEXT, VOCABULARY)."""
        return self.head(self.body(self.letters(x))[0])


class Blue(nn.Module):
    """Three convolutions with group norm between them."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.into, self.body = nn.Conv2d(2, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for _ in range(2))
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 2, 12, 12) to (batch, 1, 12, 12)."""
        h = F.relu(self.norms[0](self.into(x)))
        return self.out(F.relu(self.norms[1](self.body(h))))


class Sum(nn.Module):
    """One small network without norms that sees each picture; what it says is added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
        self.head = nn.Linear(16 * 4 * 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 2, 8, 8) to (batch, 1)."""
        h = F.relu(self.second(F.relu(self.first(x.flatten(0, 1).unsqueeze(1)))))
        return self.head(h.flatten(1)).view(len(x), 2).sum(1, keepdim=True)


class Normed(nn.Module):
    """Batch norm before and between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm1d(30), nn.BatchNorm1d(24)])
        self.layer, self.head = nn.Linear(30, 24), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 30) to logits (batch, 2)."""
        return self.head(F.relu(self.norms[1](self.layer(self.norms[0](x)))))


@functools.cache
def upper_half() -> tuple[Pair, Pair]:
    """Which digit the upper half belongs to."""
    x, y = digits()
    return split(x[:, :32].copy(), y)


HELD_OUT = (
    Task("deep", "classification: digits, tanh MLP of five hidden layers of 48", False,
         seeded(lambda: models.mlp(64, [48] * 5, 10, activation="tanh")), digits_flat,
         steps=1_000),
    Task("keywords", "classification: is a keyword among 32 characters, encoder with layer norm", False,
         seeded(reader), keywords, "cross_entropy", 400, 16),
    Task("longer", "characters of Python's library, GRU of two layers", False,
         seeded(TwoLayers), more_letters, next_character, 500, 8),
    Task("completed", "fine-tuning: body that completes digits, then which digit", False,
         on_a_body(lambda n: models.mlp(32, [64, 64], n, activation="gelu"), 32, lambda: lower_half()[0],
                   F.mse_loss, 500, 10),
         upper_half, "cross_entropy", 800, 32, "finetuning"),
    Task("blues", "regression: blue of a patch from red and green, CNN with group norm", False,
         seeded(Blue), blues, "mse", 400, 16),
    Task("sums", "regression: the sum of two pictured digits, CNN without norm", False,
         seeded(Sum), sums, "mse", 500, 32),
    Task("cells", "classification: 30 unnormalised columns, MLP with batch norm first", False,
         seeded(Normed), functools.partial(raw, "breast_cancer"), "cross_entropy", 300, 32),
    Task("both", "two tasks at once: which digit and how much ink, MLP 64-96-11", False,
         seeded(lambda: models.mlp(64, [96], 11)), which_and_how_much, both_losses, 300, 32),
)  # fmt: skip
