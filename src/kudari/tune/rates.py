"""Where to begin with an optimizer: peak learning rates and weight decay, with their sources. No torch."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kudari.tune.situation import REFERENCE_BATCH, Situation

ADAM = (
    "Kingma, Ba 2015, Adam, section 2.1: an Adam step is about lr in size, whatever the scale of the gradient"
)
BROWN = "Brown et al. 2020, Language Models are Few-Shot Learners, table 2.1"
CHEN = "Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, section 5"
HE = "He et al. 2016, Deep Residual Learning, section 3.4"
GOYAL = "Goyal et al. 2017, Accurate, Large Minibatch SGD, section 2.1"
BJORCK = (
    "Bjorck et al. 2024, Scaling Optimal LR Across Token Horizons; the cube root is Kudari's, make bench-tune"
)
MALLADI = "Malladi et al. 2022, On the SDEs and Scaling Rules for Adaptive Gradient Algorithms, section 4"
YOU_LAMB = (
    "You et al. 2020, Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, section 4"
)
YOU_LARS = "You et al. 2017, Large Batch Training of Convolutional Networks, section 5"
EVERETT = "Everett et al. 2024, Scaling Exponents Across Parameterizations and Optimizers: Adam's rates"
TANIGUCHI = "Taniguchi et al. 2024, ADOPT, section 5: Adam's rates"
PAGLIARDINI = "Pagliardini et al. 2024, The AdEMAMix Optimizer, section 4: AdamW's rates"
XIE = "Xie et al. 2022, Adan, and its authors' code: 5 to 10 times AdamW's rate"
LIU = "Liu et al. 2023, Sophia, and its authors' code: below AdamW's rate, 3 to 5 times Lion's"
SUTSKEVER = (
    "Sutskever et al. 2013, On the importance of initialization and momentum in deep learning, section 2"
)
DEVLIN = "Devlin et al. 2019, BERT, appendix A.3: 2e-5 to 5e-5 with Adam"

# Peak rates of AdamW in pre-training, by parameters of the model.
PRETRAINING: tuple[tuple[float, float], ...] = (
    (125e6, 6e-4), (350e6, 3e-4), (760e6, 2.5e-4), (1.3e9, 2e-4), (2.7e9, 1.6e-4), (6.7e9, 1.2e-4),
    (13e9, 1e-4), (175e9, 6e-5),
)  # fmt: skip

SMALL_MODEL = 1_000_000
"""Parameters below which the larger learning rate is used."""

LARGE_BODY = 50e6
"""Parameters from which on fine-tuning takes the rates published for language models."""

REFERENCE_SAMPLES = 640_000
"""Samples of the run that the tabulated learning rates are for: 10,000 batches of 64."""

SHORT_AT_MOST = 4.0
"""The rate of a run, however short, is at most this many times that of a long one."""

MOMENTUM = 0.9
"""The momentum that the tabulated rates of SGD and LARS are for."""


@dataclass(frozen=True)
class Start:
    """Where to begin with an optimizer.

    Attributes:
        lr_small, lr_large: peaks for models below and above :data:`SMALL_MODEL` parameters.
        weight_decay: for training from scratch.
        source: of the rate.
        of_adamw: the rate where AdamW's is known, as a share of it; None where the two do not compare.
        scaling: how the rate grows with the batch.
        more: further hyper-parameters, as (value, reason).
    """

    lr_small: float
    lr_large: float
    weight_decay: float
    source: str
    of_adamw: float | None = 1.0
    scaling: Literal["square root", "linear"] = "square root"
    more: Mapping[str, tuple[str, str]] = field(default_factory=dict)


_MOMENTUM = {"momentum": (f"{MOMENTUM:g}", "Averages the gradient over about ten steps.")}

_ADAM_BESIDE_MUON = {
    "adamw_lr_ratio": ("0.15", "Embeddings, head and vectors take AdamW's step, and with it AdamW's rate.")
}

STARTS: Mapping[str, Start] = {
    "adamw": Start(3e-3, 1e-3, 0.05, ADAM),
    "adam": Start(3e-3, 1e-3, 0.0, ADAM),
    "nadam": Start(3e-3, 1e-3, 0.0, ADAM),
    "radam": Start(3e-3, 1e-3, 0.0, ADAM),
    "adamax": Start(3e-3, 2e-3, 0.0, ADAM),
    "stableadamw": Start(3e-3, 1e-3, 0.05, ADAM),
    "adamatan2": Start(3e-3, 1e-3, 0.05, EVERETT),
    "adopt": Start(3e-3, 1e-3, 0.0, TANIGUCHI),
    "ademamix": Start(3e-3, 1e-3, 0.05, PAGLIARDINI),
    "adan": Start(1e-2, 5e-3, 0.02, XIE, of_adamw=5.0),
    "sophiag": Start(1.5e-3, 6e-4, 0.2, LIU, of_adamw=0.6),
    "sophiah": Start(1.5e-3, 6e-4, 0.2, LIU, of_adamw=0.6),
    "lion": Start(5e-4, 2e-4, 0.3, CHEN, of_adamw=0.2),
    "sgd": Start(0.1, 0.05, 5e-4, HE, of_adamw=None, scaling="linear", more=_MOMENTUM),
    "lamb": Start(5e-3, 2e-3, 0.01, YOU_LAMB, of_adamw=3.0),
    "lars": Start(1.0, 1.0, 1e-4, YOU_LARS, of_adamw=None, more=_MOMENTUM),
    "muon": Start(
        0.02,
        0.02,
        0.1,
        "Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks",
        of_adamw=None,
        more=_ADAM_BESIDE_MUON,
    ),
    "schedulefreeadamw": Start(
        5e-3, 2.5e-3, 0.05, "Defazio et al. 2024, The Road Less Scheduled, section 4", of_adamw=2.0
    ),
}


@dataclass(frozen=True)
class Rate:
    """A peak learning rate with its reason."""

    lr: float
    why: str
    source: str

    def scaled(self, factor: float, why: str, source: str) -> Rate:
        """The rate times a factor; what it was scaled for is added to the reason."""
        return Rate(
            self.lr * factor, f"{self.why} Scaled by {factor:.2g}, {why}.", f"{self.source}; {source}"
        )


def peak_rate(now: Situation, optimizer: str) -> Rate | None:
    """The peak rate for a model, its purpose, batch and length; None for an optimizer not in the table."""
    start = STARTS.get(optimizer)
    if start is None:
        return None
    rate = _base(now, optimizer, start)
    if "momentum" in start.more and now.momentum is not None:
        rate = _for_momentum(rate, now.momentum)
    if now.purpose == "training":  # the others' rates are for their own batches
        rate = _for_batch(rate, now.samples_per_step, start.scaling)
    if start.scaling == "square root" and now.seen is not None and not _published(now, start):
        rate = _for_length(rate, now.seen)
    return rate


def _for_momentum(rate: Rate, momentum: float) -> Rate:
    factor = (1 - momentum) / (1 - MOMENTUM)
    if math.isclose(factor, 1.0):
        return rate
    return rate.scaled(
        factor,
        "because a gradient moves a weight by lr / (1 - momentum) in all, and the rule is for a momentum of "
        f"{MOMENTUM:g}",
        SUTSKEVER,
    )


def _for_batch(rate: Rate, batch: int, scaling: str) -> Rate:
    if batch == REFERENCE_BATCH:
        return rate
    ratio = batch / REFERENCE_BATCH
    factor = min(ratio**0.5 if scaling == "square root" else ratio, 32.0)
    law = "the square root of the batch" if scaling == "square root" else "the batch"
    return rate.scaled(
        factor,
        f"with {law}: {batch:,} samples a step where the rule is for {REFERENCE_BATCH}",
        MALLADI if scaling == "square root" else GOYAL,
    )


def _for_length(rate: Rate, seen: int) -> Rate:
    """Larger for short runs, by samples and not by steps, which the batch has been counted for."""
    factor = min((REFERENCE_SAMPLES / seen) ** (1 / 3), SHORT_AT_MOST)
    if factor <= 1.0:
        return rate
    return rate.scaled(
        factor,
        f"because the run is short: {seen:,} samples in all where the rule is for {REFERENCE_SAMPLES:,}",
        BJORCK,
    )


def _published(now: Situation, start: Start) -> bool:
    """Whether the rate was published for runs of its own length."""
    return start.of_adamw is not None and (
        now.purpose == "pretraining" or (now.purpose == "finetuning" and now.parameters >= LARGE_BODY)
    )


def _base(now: Situation, optimizer: str, start: Start) -> Rate:
    if now.purpose == "pretraining" and start.of_adamw is not None:
        lr = _pretraining(now.parameters) * start.of_adamw
        return Rate(
            lr, f"Interpolated for {now.parameters:,} parameters: larger models need smaller steps.", BROWN
        )
    small = now.parameters < SMALL_MODEL
    lr = start.lr_small if small else start.lr_large
    if now.purpose == "finetuning":
        large = _published(now, start)
        lr = 2e-5 * (start.of_adamw or 1.0) if large else lr / 3
        return Rate(
            lr,
            "Weights that have learned something should move little: a third of the rate from scratch, far "
            "less for large models.",
            DEVLIN
            if large
            else "Kornblith, Shlens, Le 2019, Do Better ImageNet Models Transfer Better?, appendix A.4",
        )
    size = (
        f"a model of {now.parameters:,} parameters bears a large step"
        if small
        else "a large model needs smaller steps"
    )
    return Rate(lr, f"A peak that works widely for {optimizer}: {size}.", start.source)


def _pretraining(parameters: int) -> float:
    """Between the rows of the table in proportion to the logarithms; 1e-3 for models far below it."""
    sizes = [size for size, _ in PRETRAINING]
    at = bisect_left(sizes, parameters)
    if at == 0:
        return float(min(1e-3, PRETRAINING[0][1] * (sizes[0] / max(1, parameters)) ** 0.5))
    if at == len(sizes):
        return PRETRAINING[-1][1]
    (a, lr_a), (b, lr_b) = PRETRAINING[at - 1], PRETRAINING[at]
    share = math.log(parameters / a) / math.log(b / a)
    return float(lr_a * (lr_b / lr_a) ** share)


def decay_rate(now: Situation, optimizer: str) -> float | None:
    """Weight decay for the purpose; None for an optimizer that is not in the table."""
    start = STARTS.get(optimizer)
    if start is None:
        return None
    if optimizer in ("adamw", "stableadamw", "lion"):
        scale = {"training": 1.0, "pretraining": 2.0, "finetuning": 0.2}[now.purpose]
        return start.weight_decay * scale
    return start.weight_decay
