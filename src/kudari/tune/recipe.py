"""Defaults with their reasons: what to begin with when nobody has said otherwise. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kudari.record import Choice

Task = Literal["classification", "regression"]

TARGET_STEPS = 1_500
"""Optimizer steps of a first run: an answer within seconds for small models, within minutes for pictures."""

EPOCHS_AT_LEAST, EPOCHS_AT_MOST = 10, 60
BATCH_AT_MOST = 64

SMALL_MODEL = 1_000_000
"""Parameters below which the larger learning rate is used."""


@dataclass(frozen=True)
class _Situation:
    """What the defaults depend on.

    Attributes:
        task: ``classification`` or ``regression``.
        samples: training samples.
        parameters: trainable parameters of the model.
        optimizer: its name in lower case.
        batch_size: samples in a batch, where the user chose it; None asks for advice.
        accumulate: batches added up before each step.
        picture_side: the shorter side in pixels where a cnn looks at pictures, else None.
    """

    task: Task
    samples: int
    parameters: int
    optimizer: str = "adamw"
    batch_size: int | None = None
    accumulate: int = 1
    picture_side: int | None = None


@dataclass(frozen=True)
class _Start:
    """Where to begin with an optimizer; ``lr`` for models below and above ``SMALL_MODEL`` parameters."""

    lr_small: float
    lr_large: float
    weight_decay: float
    source: str
    more: Mapping[str, str]


_ADAM = (
    "Kingma, Ba 2015, Adam, section 2.1: an Adam step is about lr in size, whatever the scale of the gradient"
)
_STARTS: Mapping[str, _Start] = {
    "adamw": _Start(3e-3, 1e-3, 0.05, _ADAM, {}),
    "adam": _Start(3e-3, 1e-3, 0.0, _ADAM, {}),
    "lion": _Start(
        5e-4, 2e-4, 0.3, "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, section 5", {}
    ),
    "sgd": _Start(
        0.1, 0.05, 5e-4, "He et al. 2016, Deep Residual Learning, section 3.4", {"momentum": "0.9"}
    ),
}


def recipe(
    task: Task,
    *,
    samples: int,
    parameters: int,
    optimizer: str = "adamw",
    batch_size: int | None = None,
    accumulate: int = 1,
    picture_side: int | None = None,
) -> tuple[Choice, ...]:
    """Return a default, with reason and source, for everything that decides how a run goes.

    Args:
        task: ``classification`` or ``regression``.
        samples: training samples, 1 or more.
        parameters: trainable parameters of the model, 0 or more.
        optimizer: name in lower case; an optimizer that is not known here keeps its own defaults.
        batch_size: samples in a batch where it is decided already; 1 or more.
        accumulate: batches added up before each optimizer step, 1 or more.
        picture_side: the shorter side in pixels where a cnn looks at pictures; None leaves augmentation out.

    Returns:
        Choices in the order in which people read them. Keys are those of the configuration; values are
        written as they would be in it, so that they can be read back as YAML.

    Example:
        >>> choices = {c.key: c.value for c in recipe("classification", samples=1437, parameters=9610)}
        >>> choices["batch_size"], choices["epochs"], choices["optimizer.lr"]
        ('64', '60', '0.003')
    """
    now = _Situation(task, samples, parameters, optimizer, batch_size, accumulate, picture_side)
    batch = _batch_size(now)
    return (
        *_augmentation(now),
        _loss(now),
        *_label_smoothing(now),
        _optimizer(now),
        *_hyper_parameters(now),
        _decayed(now),
        _schedule(),
        batch,
        _epochs(now, int(batch.value)),
        _clip_norm(),
    )


def _augmentation(now: _Situation) -> tuple[Choice, ...]:
    if now.picture_side is None:
        return ()
    shift = now.picture_side // 8 if now.picture_side >= 16 else 0
    return (
        Choice(
            "data.random_shift",
            str(shift),
            "What a picture shows does not depend on where exactly it stands."
            if shift
            else "A picture this small has no pixels to spare.",
            "He et al. 2016, Deep Residual Learning, section 4.2: 4 of 32 pixels",
        ),
        Choice(
            "data.random_flip",
            "false",
            "Mirroring helps where left and right mean nothing; letters and digits are not such a case.",
        ),
    )


def _loss(now: _Situation) -> Choice:
    if now.task == "classification":
        return Choice("loss.name", "cross_entropy", "It is the negative log-probability of the right class.")
    return Choice(
        "loss.name", "mse", "Squared error estimates the mean; use huber or l1 where outliers are many."
    )


def _label_smoothing(now: _Situation) -> tuple[Choice, ...]:
    if now.task == "regression":
        return ()
    return (
        Choice(
            "loss.label_smoothing",
            "0.1",
            "A tenth of the target is spread over all classes, which keeps a small data set from making "
            "the model certain of what it has merely memorised.",
            "Szegedy et al. 2016, Rethinking the Inception Architecture, section 7; Müller et al. 2019, "
            "When Does Label Smoothing Help?",
        ),
    )


def _optimizer(now: _Situation) -> Choice:
    return Choice(
        "optimizer.name",
        now.optimizer,
        "Across tasks no optimizer beats a well-tuned Adam for long, and decoupled decay makes it easier "
        "to tune.",
        "Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization; Schmidt et al. 2021, Descending "
        "through a Crowded Valley",
    )


def _hyper_parameters(now: _Situation) -> tuple[Choice, ...]:
    start = _STARTS.get(now.optimizer)
    if start is None:
        return ()
    small = now.parameters < SMALL_MODEL
    lr = start.lr_small if small else start.lr_large
    size = (
        f"a model of {now.parameters:,} parameters bears a large step"
        if small
        else "a large model needs smaller steps"
    )
    decay = (
        "Pulls weights towards zero a little at every step; small data sets need it more."
        if start.weight_decay
        else f"{now.optimizer} mixes decay into its moments, where it does little good; adamw does not."
    )
    return (
        Choice(
            "optimizer.lr", f"{lr:g}", f"A peak that works widely for {now.optimizer}: {size}.", start.source
        ),
        Choice(
            "optimizer.weight_decay",
            f"{start.weight_decay:g}",
            decay,
            "Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization, section 2",
        ),
        *(
            Choice(f"optimizer.{key}", value, "Averages the gradient over about ten steps.", start.source)
            for key, value in start.more.items()
        ),
    )


def _decayed(now: _Situation) -> Choice:
    return Choice(
        "weight decay applies to",
        "weights, not biases and norms",
        "Biases and the scales of norms are few, do not overfit, and lose their purpose when pulled to zero.",
        "Goyal et al. 2017, Accurate, Large Minibatch SGD, section 5.3",
    )


def _schedule() -> Choice:
    return Choice(
        "schedule",
        "warmup_cosine",
        "The learning rate rises at first, while moment estimates are still noise, and then falls along a "
        "cosine so that the last steps settle.",
        "Goyal et al. 2017, section 2.2; Loshchilov, Hutter 2017, SGDR, equation 5",
    )


def _batch_size(now: _Situation) -> Choice:
    if now.batch_size is not None:
        return Choice("batch_size", str(now.batch_size))
    wanted = max(1, min(BATCH_AT_MOST, now.samples // 16))
    size = max(min(8, now.samples), 2 ** int(math.log2(wanted)))
    why = (
        "Small batches generalise at least as well as large ones, and 64 keeps the hardware busy."
        if size == BATCH_AT_MOST
        else f"With {now.samples:,} samples an epoch should still have at least 16 steps."
    )
    return Choice(
        "batch_size",
        str(size),
        why,
        "Masters, Luschi 2018, Revisiting Small Batch Training for Deep Neural Networks",
    )


def _epochs(now: _Situation, batch_size: int) -> Choice:
    steps = max(1, math.ceil(now.samples / batch_size / now.accumulate))
    wanted = math.ceil(TARGET_STEPS / steps)
    epochs = max(EPOCHS_AT_LEAST, min(EPOCHS_AT_MOST, wanted))
    return Choice(
        "epochs",
        str(epochs),
        f"A first answer takes about {TARGET_STEPS:,} steps, in {EPOCHS_AT_LEAST} to {EPOCHS_AT_MOST} "
        f"passes over the data; here {steps:,} to the epoch, {epochs * steps:,} in all. "
        "More of them often gain a little.",
    )


def _clip_norm() -> Choice:
    return Choice(
        "clip_norm",
        "null",
        "Feed-forward models with warm-up do not have exploding gradients; recurrent ones do, and take 1.",
        "Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks",
    )
