"""From the arguments of a run to everything it needs, checked; nothing is trained or written here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from kudari.data import Bundle
from kudari.errors import ArgumentError, CheckpointError
from kudari.record import Choice
from kudari.train.checkpoint import (
    Checkpoint,
    check_config,
    check_weights,
    find_checkpoint,
    has_not_saved,
    load_checkpoint,
)
from kudari.train.feeds import Batch
from kudari.train.losses import Loss, infer_loss, resolve_loss
from kudari.train.metrics import Metric, default_metrics, resolve_metrics
from kudari.train.options import DEFAULT_EPOCHS, Options
from kudari.train.preflight import check_all_targets, check_loss, first_outputs
from kudari.train.run import About
from kudari.train.seeds import preserved_rng, step_seeder
from kudari.train.sources import (
    EvaluationSet,
    FeedOptions,
    Source,
    data_in_memory,
    describe_source,
    resolve_source,
    training_feed,
)
from kudari.train.state import Plan, State
from kudari.train.threads import BACKWARD_FACTOR, ThreadPlan, plan_threads
from kudari.train.update import Rate, RunLength, build_optimizer, build_rate, describe_optimizer

LOG_LINES = 100
LOG_STRIDE = 50
EVALUATIONS = 100


@dataclass(frozen=True)
class Prepared:
    """Everything checked and built; nothing trained or written yet."""

    model: nn.Module
    steps: Iterator[tuple[Batch, ...]]
    loss: Loss
    metrics: tuple[Metric, ...]
    optimizer: Optimizer
    rate: Rate
    schedule: str
    valid: EvaluationSet | None
    plan: Plan
    state: State
    threads: ThreadPlan
    device: torch.device
    about: About
    choices: tuple[Choice, ...]
    data: tuple[str, ...]
    config: dict[str, Any]
    said: tuple[str, ...]


@dataclass(frozen=True)
class _Sources:
    train: Source
    valid: EvaluationSet | None
    about: About


def prepare(model: nn.Module, train: Any, valid: Any, o: Options, device: torch.device) -> Prepared:
    """Check every argument and build what a run needs.

    Raises:
        ArgumentError, DataError, CheckpointError: as :func:`kudari.fit`.
    """
    sources = _sources(train, valid, o, device)
    checkpoint, said = _checkpoint(o)
    seed_step = step_seeder(o.seed, device)
    feed = training_feed(
        sources.train, FeedOptions(o.batch_size, o.accumulate, o.seed, o.augment, device), seed_step
    )
    plan, length_choice = _plan(o, feed.steps_per_epoch, sources.valid is not None)
    start = checkpoint.step if checkpoint else 0
    steps = feed.iterate(start)
    first = next(steps)
    loss, loss_choice = _loss(o, sources.about, first)
    with preserved_rng(device):  # the first step must find the state its batch was made in
        flops = _preflight(model, loss, first, sources, precision_of(o, device))
    metrics = resolve_metrics(default_metrics(loss) if o.metrics is None else o.metrics, loss)
    optimizer = build_optimizer(o.optimizer, model, o.lr, o.weight_decay)
    samples = sum(len(x) for x, _ in first)
    rate, schedule = build_rate(o.schedule, optimizer, RunLength(plan.steps, plan.steps_per_epoch, samples))
    _check_validated(o, rate, schedule, sources.valid)
    config = _fingerprint(o, plan, loss, optimizer, schedule, sources.train)
    state = State() if checkpoint is None else _restore(checkpoint, config, model, optimizer, rate)
    threads = plan_threads(o.threads, BACKWARD_FACTOR * flops * len(first), device)
    found = (
        loss_choice,
        length_choice,
        _metrics_choice(o, metrics),
        _threads_choice(o, threads),
        _keep_choice(o),
    )
    return Prepared(
        model=model,
        steps=chain([first], steps) if start < plan.steps else iter(()),
        loss=loss,
        metrics=metrics,
        optimizer=optimizer,
        rate=rate,
        schedule=schedule,
        valid=sources.valid,
        plan=plan,
        state=state,
        threads=threads,
        device=device,
        about=sources.about,
        choices=tuple(choice for choice in found if choice is not None),
        data=sources.about.data or _describe_data(sources),
        config=config,
        said=said,
    )


def _sources(train: Any, valid: Any, o: Options, device: torch.device) -> _Sources:
    about = o.about or About()
    if isinstance(train, Bundle):
        if valid is not None:
            raise ArgumentError(
                "train is a Bundle, which has its own valid.", fix="Pass bundle.train and your valid."
            )
        about = o.about or About.of(train)
        train, valid = train.train, train.valid
    source = resolve_source(train, "train")
    held_out = None if valid is None else EvaluationSet(resolve_source(valid, "valid"), o.batch_size, device)
    return _Sources(source, held_out, about)


def _describe_data(sources: _Sources) -> tuple[str, ...]:
    lines = [describe_source(sources.train, "training")]
    if sources.valid is not None:
        lines.append(describe_source(sources.valid.source, "validation"))
    return (f"{' and '.join(lines)}.",)


def _checkpoint(o: Options) -> tuple[Checkpoint | None, tuple[str, ...]]:
    if o.resume is None:
        return None, ()
    if has_not_saved(Path(o.resume)):
        return None, (f"{o.resume} has no checkpoint yet: it begins at step 0.",)
    path, said = find_checkpoint(Path(o.resume))
    checkpoint = load_checkpoint(path)
    return checkpoint, (*said, f"Resuming {path.parent.parent} at step {checkpoint.step}.")


def _plan(o: Options, steps_per_epoch: int | None, has_valid: bool) -> tuple[Plan, Choice | None]:
    choice = None
    if o.steps is not None:
        steps = o.steps
    elif steps_per_epoch is None:
        raise ArgumentError(
            "The length of train is unknown, so epochs cannot be counted.",
            fix="Pass steps= instead of epochs=.",
        )
    else:
        steps = (o.epochs or DEFAULT_EPOCHS) * steps_per_epoch
        if o.epochs is None:
            choice = Choice("epochs", str(DEFAULT_EPOCHS), "neither epochs nor steps were given")
    stride = steps_per_epoch or max(1, steps // 10)
    rare = -(-steps // (stride * EVALUATIONS))
    return Plan(
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        log_every=o.log_every or max(1, min(LOG_STRIDE, steps // LOG_LINES)),
        eval_every=o.eval_every or stride * max(1, rare),
        save_every=o.save_every,
        clip_norm=o.clip_norm,
    ), choice


def _loss(o: Options, about: About, first: tuple[Batch, ...]) -> tuple[Loss, Choice | None]:
    if o.loss is not None:
        return resolve_loss(o.loss), None
    name, why = infer_loss(first[0][1], about.task)
    return resolve_loss(name), Choice("loss", name, why)


def _metrics_choice(o: Options, metrics: tuple[Metric, ...]) -> Choice | None:
    if o.metrics is not None or not metrics:
        return None
    return Choice("metrics", ", ".join(metric.name for metric in metrics), "usual for this loss")


def _check_validated(o: Options, rate: Rate, schedule: str, valid: EvaluationSet | None) -> None:
    """Refuse what waits for a validation that does not come."""
    if valid is None and o.keep == "best":
        raise ArgumentError(
            "keep='best' is told by validation, and there is no valid.", fix="Pass valid=, or keep='last'."
        )
    if valid is None and rate.reacts:
        raise ArgumentError(
            f"{schedule} waits for validation losses, and there is no valid.",
            why="The learning rate would never fall.",
            fix="Pass valid=, or a schedule of the step alone.",
        )


def _threads_choice(o: Options, threads: ThreadPlan) -> Choice | None:
    return Choice("threads", str(threads.count), threads.why) if o.threads == "auto" else None


def _keep_choice(o: Options) -> Choice | None:
    if o.keep == "best":
        return None
    return Choice("keep", "last", "choosing among steps by the validation set would flatter its score")


def precision_of(o: Options, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """Return a function that makes the context of a forward pass."""
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=o.precision == "bf16")


def _preflight(
    model: nn.Module,
    loss: Loss,
    first: tuple[Batch, ...],
    sources: _Sources,
    precision: Callable[[], AbstractContextManager[object]],
) -> int:
    """Check the first batch of both sets; returns the floating-point operations of a forward pass."""
    outputs, flops = first_outputs(model, first[0], precision)
    check_loss(loss, outputs, first[0][1])
    check_all_targets(loss, data_in_memory(sources.train), outputs, "train")
    if sources.valid is not None:
        batch = next(iter(sources.valid))
        check_loss(loss, first_outputs(model, batch, precision)[0], batch[1], "valid")
        check_all_targets(loss, sources.valid.data, outputs, "valid")
    return flops


def _fingerprint(
    o: Options, plan: Plan, loss: Loss, optimizer: Optimizer, schedule: str, train: Source
) -> dict[str, Any]:
    """What decides the course of a run beside the weights it starts from."""
    return {
        "seed": o.seed,
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "train": describe_source(train, "training"),
        "batch_size": o.batch_size,
        "accumulate": o.accumulate,
        "loss": loss.name,
        "optimizer": describe_optimizer(optimizer),
        "weight_decay": [float(group.get("weight_decay") or 0.0) for group in optimizer.param_groups],
        "schedule": schedule,
        "precision": o.precision,
        "clip_norm": o.clip_norm,
    }


def _restore(
    checkpoint: Checkpoint, config: dict[str, Any], model: nn.Module, optimizer: Optimizer, rate: Rate
) -> State:
    check_weights(checkpoint.model, model.state_dict())
    check_config(checkpoint.config, config)
    model.load_state_dict(checkpoint.model)
    try:
        optimizer.load_state_dict(dict(checkpoint.optimizer))
        rate.load(checkpoint.rate)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"The checkpoint's state does not fit the optimizer or schedule: {error}.",
            fix="Build them as they were built for that run.",
        ) from error
    device = next(model.parameters()).device
    best_model = checkpoint.best_model
    return State(
        step=checkpoint.step,
        seconds=checkpoint.seconds,
        evaluated_step=checkpoint.evaluated_step,
        train=dict(checkpoint.train),
        valid=dict(checkpoint.valid),
        best=dict(checkpoint.best),
        best_model=None if best_model is None else {k: v.to(device) for k, v in best_model.items()},
    )
