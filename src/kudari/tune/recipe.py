"""Defaults with their reasons: what to begin with when nobody has said otherwise. No torch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from kudari.record import Choice
from kudari.tune.rates import CHEN, STARTS, YOU_LAMB, YOU_LARS, decay_rate, peak_rate
from kudari.tune.situation import Hardware, Kind, Purpose, Situation, Task, look

TARGET_STEPS = 1_500
"""Optimizer steps of a first run: an answer within seconds for small models, within minutes for pictures."""

_DECIDED = "It was decided before the recipe was asked."
_LOSSES = "Goodfellow, Bengio, Courville 2016, Deep Learning, sections 5.5 and 6.2.2"

EPOCHS_AT_LEAST, EPOCHS_AT_MOST = 10, 60
BATCH_AT_MOST = 64


def recipe(
    task: Task,
    model: Any = None,
    data: Any = None,
    hardware: Hardware | None = None,
    *,
    samples: int | None = None,
    parameters: int | None = None,
    optimizer: str | None = None,
    purpose: Purpose = "training",
    kind: Kind | None = None,
    batch_size: int | None = None,
    accumulate: int = 1,
    epochs: int | None = None,
    steps: int | None = None,
    momentum: float | None = None,
    picture_side: int | None = None,
) -> tuple[Choice, ...]:
    """Return a default, with reason and source, for everything that decides how a run goes.

    Args:
        task: ``classification``, ``regression`` or ``language`` (predicting the next token).
        model: a module; its trainable parameters are counted and its kind is read from its layers.
        data: a Bundle, ``(X, y)``, Dataset or DataLoader, whose samples are counted.
        hardware: the machine; None takes memory to be plenty.
        samples: training samples, 1 or more; in place of ``data``.
        parameters: trainable parameters, 0 or more; in place of ``model``.
        optimizer: name in lower case where it is decided; one that is not known here keeps its own defaults.
        purpose: ``training`` from scratch, ``pretraining``, or ``finetuning``.
        kind: ``mlp``, ``cnn``, ``recurrent`` or ``transformer``, where the model does not tell.
        batch_size: samples in a batch where it is decided already; 1 or more.
        accumulate: batches added up before each optimizer step, 1 or more.
        epochs: passes over the data where that is decided already; 1 or more.
        steps: optimizer steps of the whole run where they are decided, in place of ``epochs``; 1 or more.
        momentum: of SGD and LARS, 0 up to below 1, where it is decided already.
        picture_side: the shorter side in pixels where a cnn looks at pictures; None leaves augmentation out.

    Returns:
        Choices in the order in which people read them. Keys are those of the configuration; values are
        written as they would be in it, so that they can be read back as YAML.

    Raises:
        ArgumentError: a word is unknown, or samples or parameters cannot be known.

    Example:
        >>> choices = {c.key: c.value for c in recipe("classification", samples=1437, parameters=9610)}
        >>> choices["batch_size"], choices["epochs"], choices["optimizer.lr"]
        ('64', '60', '0.00585')
        >>> large = {c.key: c.value for c in recipe("language", samples=10**6, parameters=125_000_000,
        ...          purpose="pretraining", kind="transformer")}
        >>> large["optimizer.lr"], large["optimizer.betas"], large["clip_norm"]
        ('0.0006', '[0.9, 0.95]', '1.0')
    """
    given = {
        "samples": samples, "parameters": parameters, "optimizer": optimizer, "purpose": purpose,
        "kind": kind, "batch_size": batch_size, "accumulate": accumulate, "momentum": momentum,
        "epochs": epochs, "steps": steps, "picture_side": picture_side,
    }  # fmt: skip
    now = look(task, model, data, hardware, given)
    batch, chosen = _batch_size(now), _optimizer(now)
    now = replace(now, batch_size=int(batch.value))
    length = _epochs(now, epochs, steps)
    passes = int(length.value)
    now = replace(now, seen=steps * now.samples_per_step if steps else passes * now.samples)
    return (
        *_augmentation(now),
        _loss(now),
        *_label_smoothing(now),
        chosen,
        *_hyper_parameters(now, chosen.value),
        _decayed(),
        _schedule(now, chosen.value),
        batch,
        length,
        _clip_norm(now),
    )


def _augmentation(now: Situation) -> tuple[Choice, ...]:
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
            "Shorten, Khoshgoftaar 2019, A survey on Image Data Augmentation for Deep Learning, on flipping",
        ),
    )


def _loss(now: Situation) -> Choice:
    name, why = {
        "language": ("cross_entropy", "It is the negative log-probability of the next token."),
        "classification": ("cross_entropy", "It is the negative log-probability of the right class."),
        "regression": ("mse", "Squared error estimates the mean; use huber or l1 where outliers are many."),
    }[now.task]
    return Choice("loss.name", name, why, _LOSSES)


def _label_smoothing(now: Situation) -> tuple[Choice, ...]:
    if now.task != "classification" or now.purpose == "pretraining":
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


def _optimizer(now: Situation) -> Choice:
    if now.optimizer is not None:
        why, source = _OPTIMIZERS.get(now.optimizer, (_DECIDED, ""))
        return Choice("optimizer.name", now.optimizer, why, source)
    name = "adamw"
    if now.large_batch:
        name = "lars" if now.kind == "cnn" else "lamb"
    elif now.little_memory:
        name = "lion"
    elif now.kind == "cnn" and now.purpose == "training" and now.samples >= 500_000:
        name = "sgd"
    return Choice("optimizer.name", name, *_OPTIMIZERS[name])


_OPTIMIZERS = {
    "adamw": (
        "Across tasks no optimizer beats a well-tuned Adam for long, and decoupled decay makes it easier "
        "to tune.",
        "Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization; Schmidt et al. 2021, Descending "
        "through a Crowded Valley",
    ),
    "lion": (
        "It keeps one average where Adam keeps two: 12 bytes a parameter with weights and gradients instead "
        "of 16.",
        CHEN,
    ),
    "lars": (
        "In steps of thousands of pictures one rate for all layers makes some diverge; LARS scales each "
        "layer's step by its weights.",
        YOU_LARS,
    ),
    "lamb": (
        "In steps of thousands of samples Adam needs each layer's step scaled by its weights, which is LAMB.",
        YOU_LAMB,
    ),
    "sgd": (
        "Convolutional networks trained long on many pictures end at least as well with momentum as Adam.",
        "He et al. 2016, Deep Residual Learning; Wilson et al. 2017, The Marginal Value of Adaptive Gradient "
        "Methods",
    ),
}


def _hyper_parameters(now: Situation, optimizer: str) -> tuple[Choice, ...]:
    rate, decay = peak_rate(now, optimizer), decay_rate(now, optimizer)
    if rate is None or decay is None:
        return ()
    why = (
        "Pulls weights towards zero a little at every step; small data sets need it more."
        if decay
        else f"{optimizer} mixes decay into its moments, where it does little good; adamw does not."
    )
    start = STARTS[optimizer]
    return (
        Choice("optimizer.lr", f"{rate.lr:.3g}", rate.why, rate.source),
        Choice(
            "optimizer.weight_decay",
            f"{decay:g}",
            why,
            "Loshchilov, Hutter 2019, Decoupled Weight Decay Regularization, section 2",
        ),
        *(_more(now, key, v, why, start.source) for key, (v, why) in start.more.items()),
        *_betas(now, optimizer),
    )


def _more(now: Situation, key: str, value: str, why: str, source: str) -> Choice:
    if key == "momentum" and now.momentum is not None:
        return Choice("optimizer.momentum", f"{now.momentum:g}", _DECIDED)
    return Choice(f"optimizer.{key}", value, why, source)


def _betas(now: Situation, optimizer: str) -> tuple[Choice, ...]:
    if now.purpose != "pretraining" or optimizer not in ("adamw", "adam"):
        return ()
    return (
        Choice(
            "optimizer.betas",
            "[0.9, 0.95]",
            "A shorter memory of squared gradients recovers sooner from a batch that was far off.",
            "Brown et al. 2020, Language Models are Few-Shot Learners, appendix B",
        ),
    )


def _decayed() -> Choice:
    return Choice(
        "weight decay applies to",
        "weights, not biases and norms",
        "Biases and the scales of norms are few, do not overfit, and lose their purpose when pulled to zero.",
        "Goyal et al. 2017, Accurate, Large Minibatch SGD, section 5.3",
    )


def _schedule(now: Situation, optimizer: str) -> Choice:
    if optimizer.startswith("schedulefree"):
        return Choice(
            "schedule",
            "warmup_constant",
            "It averages its weights in place of letting the rate fall; warm-up still pays.",
            "Defazio et al. 2024, The Road Less Scheduled, section 4",
        )
    rises = "The learning rate rises at first, while moment estimates are still noise"
    falls = "and then falls along a cosine so that the last steps settle."
    source = "Goyal et al. 2017, section 2.2; Loshchilov, Hutter 2017, SGDR, equation 5"
    if now.large_batch or now.purpose == "finetuning":
        reason = (
            "over 5 % of the run, because steps of large batches are few and long"
            if now.large_batch
            else "over 5 % of the run, so that a fresh head does not tear at a trained body"
        )
        return Choice("schedule", "warmup('5%') >> cosine(floor=0.1)", f"{rises}, {reason}, {falls}", source)
    if now.purpose == "pretraining":
        reason = "over 1 %, which is many steps of a long run"
        return Choice(
            "schedule",
            "warmup('1%') >> cosine(floor=0.1)",
            f"{rises}, {reason}, {falls} A tenth of the peak is left, with which training can go on.",
            "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, section 3.1",
        )
    return Choice("schedule", "warmup_cosine", f"{rises}, {falls}", source)


def _batch_size(now: Situation) -> Choice:
    if now.batch_size is not None:
        return Choice("batch_size", str(now.batch_size), _DECIDED)
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


def _epochs(now: Situation, decided: int | None, steps_decided: int | None) -> Choice:
    steps = max(1, math.ceil(now.samples / now.samples_per_step))
    if decided or steps_decided:
        return Choice("epochs", str(decided or math.ceil((steps_decided or 1) / steps)), _DECIDED)
    if now.purpose == "pretraining":
        return Choice(
            "epochs",
            "1",
            "New text teaches more than text seen before.",
            "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, section 3",
        )
    wanted = math.ceil(TARGET_STEPS / steps)
    epochs = max(EPOCHS_AT_LEAST, min(EPOCHS_AT_MOST, wanted))
    return Choice(
        "epochs",
        str(epochs),
        f"A first answer takes about {TARGET_STEPS:,} steps, in {EPOCHS_AT_LEAST} to {EPOCHS_AT_MOST} "
        f"passes over the data; here {steps:,} to the epoch, {epochs * steps:,} in all. "
        "More of them often gain a little.",
        "Kudari's own measurement: make bench-digits",
    )


def _clip_norm(now: Situation) -> Choice:
    pascanu = "Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks"
    if now.kind in ("recurrent", "transformer") or now.purpose != "training":
        return Choice(
            "clip_norm",
            "1.0",
            "A rare batch with a gradient far longer than the others would undo many steps.",
            pascanu if now.kind == "recurrent" else f"{pascanu}; Brown et al. 2020, appendix B",
        )
    return Choice(
        "clip_norm",
        "null",
        "Feed-forward models with warm-up do not have exploding gradients; recurrent ones do, and take 1.",
        pascanu,
    )
