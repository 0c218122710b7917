"""Eight tasks the rule was made on: data of scikit-learn and Python, models that train in a second."""

from __future__ import annotations

import functools
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sklearn.datasets
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kudari import models

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        name: short.
        about: what is learned, from what.
        frozen_on: the learning-rate rule was made looking at this task; the others were held out.
        model: ``model(seed)``, untrained.
        data: training and held-out pairs.
        loss: for ``fit``.
        steps, batch_size: of a run.
        purpose: for the recipe.
    """

    name: str
    about: str
    frozen_on: bool
    model: Callable[[int], nn.Module]
    data: Callable[[], tuple[Pair, Pair]]
    loss: Any = "cross_entropy"
    steps: int = 300
    batch_size: int = 32
    purpose: Literal["training", "finetuning"] = "training"


def split(x: np.ndarray, y: np.ndarray) -> tuple[Pair, Pair]:
    """Every fourth sample of a fixed shuffle is held out."""
    order = np.random.default_rng(0).permutation(len(x))
    held = np.arange(len(x)) % 4 == 0
    parts = [(torch.tensor(x[order[m]]), torch.tensor(y[order[m]])) for m in (~held, held)]
    return parts[0], parts[1]


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    found = sklearn.datasets.load_digits()
    return (found.data / 16 - 0.3).astype(np.float32) * 2.5, found.target.astype(np.int64)


@functools.cache
def digits_flat() -> tuple[Pair, Pair]:
    return split(*digits())


@functools.cache
def digits_pictures() -> tuple[Pair, Pair]:
    x, y = digits()
    return split(x.reshape(-1, 1, 8, 8), y)


@functools.cache
def lower_half() -> tuple[Pair, Pair]:
    """The lower half of a digit from its upper half."""
    x, _ = digits()
    return split(x[:, :32].copy(), x[:, 32:].copy())


@functools.cache
def new_digits() -> tuple[Pair, Pair]:
    x, y = digits()
    return split(x[y >= 5], y[y >= 5] - 5)


@functools.cache
def old_digits() -> tuple[Pair, Pair]:
    x, y = digits()
    return split(x[y < 5], y[y < 5])


@functools.cache
def raw(name: str) -> tuple[Pair, Pair]:
    """Columns as they were measured, from hundredths to thousands."""
    found = getattr(sklearn.datasets, f"load_{name}")()
    return split(found.data.astype(np.float32), found.target.astype(np.int64))


CONTEXT = 24
VOCABULARY = 98


@functools.cache
def text() -> tuple[Pair, Pair]:
    """Windows of Python's own standard library, as characters; a quarter of the files is held out."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("[a-d]*.py"))
    parts = []
    for held in (False, True):
        chosen = [f.read_text("utf-8", "replace") for i, f in enumerate(files) if (i % 4 == 0) is held]
        codes = np.frombuffer("".join(chosen)[:200_000].encode("ascii", "replace"), np.uint8)
        codes = np.where(codes < 32, 0, codes - 31).clip(0, VOCABULARY - 1).astype(np.int64)
        count = (len(codes) - 1) // CONTEXT * CONTEXT
        x, y = codes[:count].reshape(-1, CONTEXT), codes[1 : count + 1].reshape(-1, CONTEXT)
        size = 640 if held else len(x)
        order = np.random.default_rng(0).permutation(len(x))[:size]
        parts.append((torch.tensor(x[order]), torch.tensor(y[order])))
    return parts[0], parts[1]


def next_character(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over all places (batch, CONTEXT, VOCABULARY)."""
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


class Transformer(nn.Module):
    """Two pre-norm blocks with causal attention, 32 wide."""

    def __init__(self, width: int = 32, heads: int = 4, blocks: int = 2) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(CONTEXT, width)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(blocks))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(blocks))
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * blocks + 1))
        self.head, self.heads = nn.Linear(width, VOCABULARY), heads
        for table in (self.letters, self.places):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (batch, CONTEXT) to logits (batch, CONTEXT, VOCABULARY)."""
        h = self.letters(x) + self.places.weight
        batch, length, width = h.shape
        for i, (qkv, out, up, down) in enumerate(zip(self.qkv, self.out, self.up, self.down, strict=True)):
            parts = qkv(self.norms[2 * i](h)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(*parts.unbind(0), is_causal=True)
            h = h + out(mixed.transpose(1, 2).reshape(batch, length, width))
            h = h + down(F.gelu(up(self.norms[2 * i + 1](h))))
        return self.head(self.norms[-1](h))


class Recurrent(nn.Module):
    """A GRU over characters, 48 wide."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.letters = nn.Embedding(VOCABULARY, width)
        self.body = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        """Map characters (batch, CONTEXT) to logits (batch, CONTEXT, VOCABULARY)."""
        return self.head(self.body(self.letters(x))[0])


def seeded(build: Callable[[], nn.Module]) -> Callable[[int], nn.Module]:
    """A model as a function of a seed."""

    def model(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build()

    return model


def learned(
    model: nn.Module,
    data: Pair,
    loss: Callable[[Tensor, Tensor], Tensor],
    lr: float,
    steps: int,
    batch: int,
    seed: int,
) -> dict[str, Tensor]:
    """The state of a model after some steps of AdamW on rows drawn by the seed."""
    x, y = data
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(x), (batch,), generator=generator)
        optimizer.zero_grad()
        loss(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model.state_dict()


def on_a_body(
    build: Callable[[int], nn.Module],
    before: int,
    data: Callable[[], Pair],
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    after: int,
) -> Callable[[int], nn.Module]:
    """A pre-trained body under a fresh head, as a function of a seed.

    Args:
        build: ``build(outputs)``; its head is called ``output``.
        before: outputs of the network that is trained beforehand.
        data, loss, steps: of that training.
        after: outputs of the fresh head.
    """

    @functools.cache
    def body(seed: int) -> dict[str, Tensor]:
        state = learned(seeded(lambda: build(before))(seed), data(), loss, 3e-3, steps, 32, seed)
        return {k: v for k, v in state.items() if not k.startswith("output.")}

    def model(seed: int) -> nn.Module:
        fresh = seeded(lambda: build(after))(seed)
        fresh.load_state_dict(body(seed), strict=False)
        return fresh

    return model


TASKS = (
    Task("digits", "classification: digits, MLP 64-128-10", True,
         seeded(lambda: models.mlp(64, [128], 10)), digits_flat),
    Task("half", "regression: lower half of a digit from its upper half, MLP 32-96-96-32", True,
         seeded(lambda: models.mlp(32, [96, 96], 32, activation="gelu")), lower_half, "mse"),
    Task("text", "characters of Python's library, transformer of 2 blocks", True,
         seeded(Transformer), text, next_character, 300, 8),
    Task("wine", "13 unnormalised columns, MLP 13-32-32-3", True,
         seeded(lambda: models.mlp(13, [32, 32], 3)), functools.partial(raw, "wine"), batch_size=16),
    Task("pictures", "classification: digits, residual CNN with batch norm", True,
         seeded(lambda: models.cnn(1, 10, width=4, depth=2)), digits_pictures, "cross_entropy", 200),
    Task("tuned", "fine-tuning: body pre-trained on digits 0 to 4, then 5 to 9", True,
         on_a_body(lambda n: models.mlp(64, [64, 64], n), 5, lambda: old_digits()[0],
                   F.cross_entropy, 300, 5),
         new_digits, purpose="finetuning"),
    Task("cancer", "30 unnormalised columns, tanh MLP 30-32-2", True,
         seeded(lambda: models.mlp(30, [32], 2, activation="tanh")), functools.partial(raw, "breast_cancer")),
    Task("recurrent", "characters of Python's library, GRU", True,
         seeded(Recurrent), text, next_character, 300, 8),
)  # fmt: skip
