"""Eight more tasks the rule was made on: sequences, pictures, unnormalised columns, fine-tuning."""

from __future__ import annotations

import functools
import importlib.util
import pydoc_data.topics
import sysconfig
from pathlib import Path

import numpy as np
import sklearn.datasets
import torch.nn.functional as F
from benchmarks.tune.tasks import (
    CONTEXT,
    VOCABULARY,
    Pair,
    Task,
    Transformer,
    digits,
    learned,
    next_character,
    seeded,
    split,
    text,
)
from torch import Tensor, nn

from kudari import models


@functools.cache
def diabetes() -> tuple[Pair, Pair]:
    """Ten columns as they were measured, from 1 to 300; the target has mean 0 and deviation 1."""
    found = sklearn.datasets.load_diabetes(scaled=False)
    y = (found.target - found.target.mean()) / found.target.std()
    return split(found.data.astype(np.float32), y.astype(np.float32)[:, None])


@functools.cache
def photo(name: str) -> np.ndarray:
    """A photograph (height, width, 3) with values from 0 to 1, every fourth pixel of it."""
    return sklearn.datasets.load_sample_image(name)[::4, ::4].astype(np.float32) / 255


@functools.cache
def pixels() -> tuple[Pair, Pair]:
    """The colour of a place: sines and cosines of its coordinates (40) to three colours."""
    picture = photo("china.jpg")
    height, width, _ = picture.shape
    places = np.stack(np.meshgrid(np.arange(height) / height, np.arange(width) / width, indexing="ij"), -1)
    waves = 2.0 ** np.arange(0, 5, 0.5) * np.pi
    angles = (places[..., None] * waves).reshape(height * width, -1)
    x = np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)
    chosen = np.random.default_rng(1).permutation(len(x))[:8_000]
    return split(x[chosen], picture.reshape(-1, 3)[chosen] * 4 - 2)


@functools.cache
def noisy_patches() -> tuple[Pair, Pair]:
    """Patches (1, 12, 12) of two photographs with noise added, and without."""
    patches = []
    for name in ("china.jpg", "flower.jpg"):
        grey = photo(name).mean(-1)
        tops, lefts = range(0, grey.shape[0] - 12, 6), range(0, grey.shape[1] - 12, 6)
        patches += [grey[i : i + 12, j : j + 12] for i in tops for j in lefts]
    clean = (np.stack(patches)[:, None] * 4 - 2).astype(np.float32)
    noise = np.random.default_rng(2).standard_normal(clean.shape).astype(np.float32)
    return split(clean + 0.5 * noise, clean)


@functools.cache
def rows() -> tuple[Pair, Pair]:
    """A digit as a sequence of its eight rows."""
    x, y = digits()
    return split(x.reshape(-1, 8, 8), y)


@functools.cache
def odd() -> tuple[Pair, Pair]:
    x, y = digits()
    return split(x, y % 2)


@functools.cache
def library(names: str) -> str:
    """The modules of Python's library whose names begin with one of some letters."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob(f"[{names}]*.py"))
    return "".join(f.read_text("utf-8", "replace") for f in files)


def windows(code: str, count: int, size: int = CONTEXT) -> np.ndarray:
    """Windows of characters (count, size) as whole numbers."""
    codes = np.frombuffer(code.encode("ascii", "replace"), np.uint8)
    codes = np.where(codes < 32, 0, codes - 31).clip(0, VOCABULARY - 1).astype(np.int64)
    starts = np.random.default_rng(3).permutation(len(codes) - size)[:count]
    return np.stack([codes[i : i + size] for i in starts])


@functools.cache
def prose() -> tuple[Pair, Pair]:
    """Windows of English: the help pages that come with Python."""
    found = windows("\n".join(pydoc_data.topics.topics.values()), 3_000, CONTEXT + 1)
    return split(found[:, :-1], found[:, 1:])


MODULES = ("argparse", "ast", "decimal", "tarfile", "turtle", "typing")


@functools.cache
def which_module() -> tuple[Pair, Pair]:
    """Which of six modules of Python's library 64 characters are from."""
    parts = []
    for name in MODULES:
        spec = importlib.util.find_spec("_pydecimal" if name == "decimal" else name)
        assert spec is not None
        assert spec.origin is not None
        parts.append(windows(Path(spec.origin).read_text("utf-8"), 500, 64))
    return split(np.concatenate(parts), np.repeat(np.arange(len(MODULES)), 500))


class Rows(nn.Module):
    """An LSTM over rows, 32 wide; its last output decides."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 8, 8) to logits (batch, 10)."""
        return self.head(self.body(x)[0][:, -1])


class Denoiser(nn.Module):
    """Three convolutions without normalisation, 12 channels wide."""

    def __init__(self) -> None:
        super().__init__()
        self.inward, self.body = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
        self.outward = nn.Conv2d(12, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 1, 12, 12) to the same shape."""
        return self.outward(F.relu(self.body(F.relu(self.inward(x)))))


class Reader(nn.Module):
    """Characters, one convolution over five of them, the mean over all places."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.body = nn.Embedding(VOCABULARY, 16), nn.Conv1d(16, 32, 5)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, len(MODULES))

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (batch, 64) to logits (batch, 6)."""
        return self.head(self.norm(F.relu(self.body(self.letters(x).mT)).mean(-1)))


@functools.cache
def reader_of_code(seed: int) -> dict[str, Tensor]:
    """Weights of a transformer that has read Python's library for 400 steps."""
    model = seeded(Transformer)(seed)
    return learned(model, text()[0], next_character, 5e-3, 400, 16, seed)


def transferred(seed: int) -> nn.Module:
    """The transformer that has read code, with a fresh head."""
    model = seeded(Transformer)(seed)
    body = {k: v for k, v in reader_of_code(seed).items() if not k.startswith("head.")}
    model.load_state_dict(body, strict=False)
    return model


MORE_TASKS = (
    Task("diabetes", "regression: 10 unnormalised columns, MLP 10-48-1", True,
         seeded(lambda: models.mlp(10, [48], 1)), diabetes, "mse", 300, 32),
    Task("pixels", "regression: colour of a pixel from its place, MLP 40-64-64-3", True,
         seeded(lambda: models.mlp(40, [64, 64], 3)), pixels, "mse", 400, 64),
    Task("patches", "regression: patches of photographs without noise, CNN without normalisation", True,
         seeded(Denoiser), noisy_patches, "mse", 250, 16),
    Task("rows", "classification: digits row by row, LSTM", True,
         seeded(Rows), rows, "cross_entropy", 300, 32),
    Task("odd", "classification: odd digits, MLP 64-64-64-2 with dropout in 800 steps", True,
         seeded(lambda: models.mlp(64, [64, 64], 2, dropout=0.2)), odd, "cross_entropy", 800, 16),
    Task("modules", "classification: where 64 characters are from, 1-d convolution", True,
         seeded(Reader), which_module, "cross_entropy", 300, 32),
    Task("prose", "fine-tuning: transformer that has read code, then English", True,
         transferred, prose, next_character, 200, 8, "finetuning"),
    Task("residual", "classification: odd digits, residual CNN with batch norm", True,
         seeded(lambda: models.cnn(1, 2, width=4, depth=1)),
         lambda: tuple((x.reshape(-1, 1, 8, 8), y) for x, y in odd()), "cross_entropy", 250, 16),
)  # fmt: skip
