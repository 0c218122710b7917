"""Eight tasks that were held out from the rule before this one; the rule now was made looking at them."""

from __future__ import annotations

import functools

import numpy as np
import sklearn.datasets
import torch
import torch.nn.functional as F
from benchmarks.tune.more_tasks import MODULES, library, photo, reader_of_code, which_module, windows
from benchmarks.tune.tasks import (
    CONTEXT,
    VOCABULARY,
    Pair,
    Task,
    Transformer,
    digits,
    digits_flat,
    next_character,
    on_a_body,
    seeded,
    split,
)
from torch import Tensor, nn

from kudari import models


@functools.cache
def letters() -> tuple[Pair, Pair]:
    found = windows(library("i-o"), 3_000, CONTEXT + 1)
    return split(found[:, :-1], found[:, 1:])


@functools.cache
def spaces() -> tuple[Pair, Pair]:
    """Which share of 40 characters is blank, standardised."""
    x = windows(library("p-s"), 3_000, 40)
    y = (x == 1).mean(1, keepdims=True).astype(np.float32)
    return split(x, (y - y.mean()) / y.std())


@functools.cache
def radius() -> tuple[Pair, Pair]:
    """The mean radius of a cell's nucleus, standardised, from twenty other columns as they were measured."""
    found = sklearn.datasets.load_breast_cancer().data.astype(np.float32)
    y = (found[:, :1] - found[:, :1].mean()) / found[:, :1].std()
    return split(found[:, 10:].copy(), y)


@functools.cache
def rotated() -> tuple[Pair, Pair]:
    """Colour patches (3, 12, 12) of two photographs, and by how many right angles they were rotated."""
    patches = []
    for name in ("china.jpg", "flower.jpg"):
        picture = photo(name) * 4 - 2
        tops, lefts = range(0, picture.shape[0] - 12, 7), range(0, picture.shape[1] - 12, 7)
        patches += [picture[i : i + 12, j : j + 12].transpose(2, 0, 1) for i in tops for j in lefts]
    turns = np.random.default_rng(5).integers(0, 4, len(patches))
    turned = [np.rot90(patch, turn, (1, 2)) for patch, turn in zip(patches, turns, strict=True)]
    return split(np.stack(turned).astype(np.float32), turns)


@functools.cache
def lines_and_columns() -> tuple[Pair, Pair]:
    """A digit as sixteen places, eight rows and then eight columns, of eight pixels."""
    x, y = digits()
    pictures = x.reshape(-1, 8, 8)
    return split(np.concatenate([pictures, pictures.transpose(0, 2, 1)], 1), y)


@functools.cache
def from_which_module() -> tuple[Pair, Pair]:
    """Which of six modules of Python's library 24 characters are from."""
    train, held = which_module()
    return (train[0][:, :CONTEXT].contiguous(), train[1]), (held[0][:, :CONTEXT].contiguous(), held[1])


@functools.cache
def scales() -> tuple[Pair, Pair]:
    """Digits whose columns are in units of their own, from hundredths to hundreds."""
    x, y = digits()
    units = 10 ** np.random.default_rng(6).uniform(-2, 2, x.shape[1])
    return split((x * units).astype(np.float32), y)


class Letters(nn.Module):
    """An LSTM over characters, 40 wide."""

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        self.letters, self.head = nn.Embedding(VOCABULARY, width), nn.Linear(width, VOCABULARY)
        self.body = nn.LSTM(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (batch, CONTEXT) to logits (batch, CONTEXT, VOCABULARY)."""
        return self.head(self.body(self.letters(x))[0])


class Blanks(nn.Module):
    """Characters, a convolution over three of them, the mean over all places; no normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.body = nn.Embedding(VOCABULARY, 12), nn.Conv1d(12, 24, 3)
        self.head = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (batch, 40) to (batch, 1)."""
        return self.head(F.relu(self.body(self.letters(x).mT)).mean(-1))


class Plain(nn.Module):
    """Three convolutions with batch norm, the largest value over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 12, 3), nn.Conv2d(12, 16, 3), nn.Conv2d(16, 24, 3)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(layer.out_channels) for layer in self.layers])
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 3, 12, 12) to logits (batch, 4)."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        return self.head(x.amax((-2, -1)))


class Encoder(nn.Module):
    """Encoder layers without dropout over places; the mean over places decides.

    Args:
        inward: from (batch, places, ...) to (batch, places, width).
        places, width, heads, hidden: sizes.
        outputs: how many.
        norm_first: layer norm before each part, not after it as in 2017.
    """

    def __init__(
        self,
        inward: nn.Module,
        places: int,
        width: int,
        heads: int,
        hidden: int,
        outputs: int,
        norm_first: bool = False,
    ) -> None:
        super().__init__()
        self.inward, self.place = inward, nn.Parameter(0.1 * torch.randn(places, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, hidden, dropout=0.0, batch_first=True, norm_first=norm_first
            )
            for _ in range(2)
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, places, ...) to logits (batch, outputs)."""
        h = self.inward(x) + self.place
        for layer in self.layers:
            h = layer(h)
        return self.head(h.mean(1))


class OfWhichModule(nn.Module):
    """The transformer's logits at every place, and a head over their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = Transformer(), nn.Linear(VOCABULARY, len(MODULES))

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (batch, CONTEXT) to logits (batch, 6)."""
        return self.head(self.body(x).mean(1))


def read_before(seed: int) -> nn.Module:
    """The transformer that has read code, under a fresh head."""
    model = seeded(OfWhichModule)(seed)
    model.body.load_state_dict(reader_of_code(seed))
    return model


def itself() -> Pair:
    x, _ = digits_flat()[0]
    return x, x


THEN_HELD_OUT = (
    Task("letters", "characters of Python's library, LSTM", True,
         seeded(Letters), letters, next_character, 300, 8),
    Task("spaces", "regression: the share of blanks in 40 characters, 1-d convolution", True,
         seeded(Blanks), spaces, "mse", 250, 16),
    Task("radius", "regression: 20 unnormalised columns, MLP 20-32-16-1", True,
         seeded(lambda: models.mlp(20, [32, 16], 1)), radius, "mse", 300, 32),
    Task("rotated", "classification: how a patch was rotated, CNN with batch norm", True,
         seeded(Plain), rotated, "cross_entropy", 250, 24),
    Task("glances", "classification: digits by rows and columns, attention with layer norm", True,
         seeded(lambda: Encoder(nn.Linear(8, 24), 16, 24, 3, 48, 10)), lines_and_columns,
         "cross_entropy", 300, 32),
    Task("origin", "fine-tuning: transformer that has read code, then where it is from", True,
         read_before, from_which_module, "cross_entropy", 200, 16, "finetuning"),
    Task("encoded", "fine-tuning: encoder of digits, then which digit", True,
         on_a_body(lambda n: models.mlp(64, [48, 24], n), 64, itself, F.mse_loss, 400, 10),
         digits_flat, "cross_entropy", 200, 32, "finetuning"),
    Task("scales", "classification: digits in 64 unnormalised columns, MLP 64-64-10", True,
         seeded(lambda: models.mlp(64, [64], 10)), scales, "cross_entropy", 300, 32),
)  # fmt: skip
