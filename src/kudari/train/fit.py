"""``kudari.fit``: one call from a model and data to a trained model and the record of how it got there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kudari.record import RunDir
from kudari.train.options import Keep, Options, Precision
from kudari.train.progress import Progress
from kudari.train.run import About, Run
from kudari.train.session import run_session


def fit(
    model: nn.Module,
    train: Any,
    valid: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = "adamw",
    schedule: Any = "warmup_cosine",
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 64,
    lr: float | None = None,
    weight_decay: float | None = None,
    metrics: Any = None,
    accumulate: int = 1,
    clip_norm: float | None = None,
    precision: Precision = "fp32",
    augment: Any = None,
    keep: Keep = "last",
    seed: int = 0,
    device: str | torch.device = "auto",
    threads: int | Literal["auto"] = "auto",
    out: str | Path | None = None,
    resume: str | Path | None = None,
    log_every: int | None = None,
    eval_every: int | None = None,
    save_every: int | None = None,
    keep_checkpoints: int = 2,
    doctor: bool = True,
    progress: bool | Progress = True,
    about: About | None = None,
    config: Mapping[str, Any] | None = None,
    finish: Callable[[RunDir], object] | None = None,
) -> Run:
    """Train a model and leave a run folder with weights, metrics, checkpoints and facts.

    The state of a run is one integer, the optimizer step: data order, augmentation, dropout and learning rate
    are functions of (seed, step). A resumed run therefore ends, on the CPU, with the same bits as an
    uninterrupted one. torch's global random state and thread setting are afterwards as they were before.

    Args:
        model: any module from inputs (N, ...) to one tensor; it is trained in place and moved to the device.
        train: ``(X, y)`` tensors or arrays, TensorData, Bundle, torch Dataset, DataLoader, BatchLoader, or
            any iterable of batches (x, y). Augmentation inside your own loader must draw from torch's
            generators to be repeatable; on resume a loader is read on to its place in the epoch.
        valid: the same kinds, or None.
        loss: ``cross_entropy``, ``mse``, ``l1``, ``huber``, ``bce`` (on logits), a module or function
            (outputs, targets) -> mean; None chooses from the task or the targets and says so.
        optimizer: a name of :func:`kudari.optim.names`, an Optimizer class, an Optimizer, or a function of
            the parameters.
        schedule: text or object of :mod:`kudari.schedules`, a torch LRScheduler of the optimizer (stepped
            once per optimizer step), ``factor(step, total_steps)``, or None. Plateaus of either kind are
            told the loss of every validation.
        epochs, steps: length, one of them; 20 epochs if neither.
        batch_size: samples of a micro-batch; loaders of your own have their own.
        lr: peak learning rate, above 0; None takes the optimizer's default.
        weight_decay: for optimizers by name kept off biases and norm parameters; None takes the optimizer's
            default.
        metrics: ``accuracy``, ``error``, ``top5``, ``perplexity``, ``mae``, ``rmse``, ``r2`` or functions
            (outputs, targets) -> mean; the first chooses the best step. None chooses by the loss.
        accumulate: micro-batches of a step; their gradient is that of the mean over all their samples.
        clip_norm: largest Euclidean norm of the gradient.
        precision: ``fp32``, or ``bf16`` for forward passes under autocast; weights stay float32.
        augment: ``augment(x, y, generator)`` for training data in memory.
        keep: ``last`` leaves the final weights, ``best`` those of the best validation (needs ``valid``).
        seed: 0 or more.
        device: ``auto`` (CUDA if there is one), or as torch names it.
        threads: ``auto`` gives one thread to small models; see :mod:`kudari.train.threads`.
        out: the run's folder, which must not hold a run; None makes ``runs/<name>-<number>``.
        resume: folder of a run (or one checkpoint) to continue, with the same other arguments; one that was
            killed before its first checkpoint begins at step 0.
        log_every: steps between lines of the metrics log; None makes about 100 of them, at most 50 steps
            apart.
        eval_every: steps between validations; None means the end of each epoch, at most 100 times.
        save_every: steps between checkpoints; None means every 30 seconds. The end of a run is always saved.
        keep_checkpoints: how many of the newest stay; each also holds the best weights so far.
        doctor: watch the first steps (:mod:`kudari.doctor`) and put what is wrong with data, labels, model
            or loss into the report; numbers stay the same.
        progress: ``True`` for a bar (lines where standard error is no terminal), ``False`` for silence, or an
            object.
        about: what the record should say about data and purpose.
        config: written as ``config.yaml`` instead of these arguments.
        finish: called with the run's folder when everything else is written; draws the report.

    Returns:
        The :class:`Run`. Ctrl-C and SIGTERM end it after the current step with status ``interrupted`` and a
        checkpoint; a loss that is not finite ends it with status ``failed``, keeping the last good
        checkpoint.

    Raises:
        ArgumentError: an argument is unknown, out of range or contradicts another.
        DataError: the data do not fit the model or the loss.
        CheckpointError: ``resume`` has no sound checkpoint, or one of another run.

    Example:
        >>> X, y = torch.randn(256, 8), torch.randint(0, 3, (256,))  # doctest: +SKIP
        >>> run = kudari.fit(torch.nn.Linear(8, 3), (X, y), epochs=5)  # doctest: +SKIP
        >>> run.metrics["train_accuracy"]  # doctest: +SKIP
        0.41
    """
    names = Options.__dataclass_fields__
    given = locals()
    return run_session(model, train, valid, Options(**{name: given[name] for name in names}))
