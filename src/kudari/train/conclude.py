"""The end of a run: final weights, the examination, and the facts."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from kudari.models import describe as describe_model
from kudari.record import Choice, Diagnosis, Evaluation, Facts, RunDir
from kudari.record.facts import Task
from kudari.train.checkpoint import save_tensors
from kudari.train.environment import describe_environment
from kudari.train.evaluation import Examined, examine
from kudari.train.loop import Plan, State, best_by
from kudari.train.losses import Loss
from kudari.train.metrics import Metric
from kudari.train.options import Keep
from kudari.train.run import About, Run
from kudari.train.signals import StopRequest
from kudari.train.sources import EvaluationSet
from kudari.train.threads import ThreadPlan
from kudari.train.update import decay_of, describe_optimizer, formula_of

_TASKS: dict[str, Task] = {"classes": "classification", "values": "regression", "own": "other"}


@dataclass(frozen=True)
class Setting:
    """A run whose last step is done; the names are those of the session."""

    folder: RunDir
    model: nn.Module
    optimizer: Optimizer
    schedule: str
    loss: Loss
    metrics: tuple[Metric, ...]
    valid: EvaluationSet | None
    plan: Plan
    state: State
    threads: ThreadPlan
    device: torch.device
    about: About
    choices: tuple[Choice, ...]
    data: tuple[str, ...]
    precision: Callable[[], AbstractContextManager[object]]
    precision_name: str
    keep: Keep
    stop: StopRequest


def conclude(s: Setting) -> Run:
    """Write ``model.safetensors`` (not after a failure: the last good weights are in the checkpoint) and ``facts.json``."""
    values = dict(s.state.valid)
    if s.keep == "best" and s.state.best_model is not None and s.state.status != "failed":
        s.model.load_state_dict(s.state.best_model, strict=False)
        values = {name: s.state.best[name] for name in ("loss", *(m.name for m in s.metrics))}
    if s.state.status != "failed":
        _write_model(s)
    metrics = _final_metrics(s, values)
    message = _message(s)
    facts = _facts(s, metrics, _evaluation(s), message)
    facts.write(s.folder.facts)
    return Run(
        dir=s.folder,
        model=s.model,
        metrics=metrics,
        seconds=s.state.seconds,
        steps=s.state.step,
        facts=facts,
        status=s.state.status,
        message=message,
    )


def _write_model(s: Setting) -> None:
    draft = s.folder.model.with_suffix(".draft")
    tensors = {name: value for name, value in s.model.state_dict().items() if isinstance(value, torch.Tensor)}
    save_tensors(draft, tensors)
    os.replace(draft, s.folder.model)


def _final_metrics(s: Setting, valid: Mapping[str, float]) -> dict[str, float]:
    names = ("loss", *(metric.name for metric in s.metrics))
    final = {f"train_{name}": s.state.train[name] for name in names if name in s.state.train}
    final.update({f"valid_{name}": valid[name] for name in names if name in valid})
    if s.state.best:
        final[f"best_valid_{best_by(s.metrics)[0]}"] = s.state.best["value"]
        final["best_step"] = s.state.best["step"]
    return final


def _evaluation(s: Setting) -> Evaluation | None:
    if s.valid is None or s.state.status != "finished":
        return None
    about = s.about
    how = Examined(s.loss, about.classes, about.valid_names, about.picture, about.units)
    return examine(
        s.model, s.valid, how, precision=s.precision, stopped=lambda: bool(s.stop.requested)
    )


def _message(s: Setting) -> str:
    state, where = s.state, s.folder.path
    if state.status == "finished":
        return ""
    again = f"kudari train --resume {shlex.quote(str(where))}, or fit(..., resume={str(where)!r})"
    saved = any(s.folder.checkpoints.glob("step-*"))
    if state.status == "failed":
        return f"{state.message} {'The last good checkpoint is in ' + str(s.folder.checkpoints) + '.' if saved else ''}".strip()
    done = f"Stopped by {s.stop.requested} at step {state.step:,} of {s.plan.steps:,}."
    return f"{done} To go on from there: {again}." if saved else f"{done} Nothing was trained yet."


def _facts(s: Setting, metrics: Mapping[str, float], evaluation: Evaluation | None, message: str) -> Facts:
    state = s.state
    known = {choice.key for choice in s.about.recipe}
    diagnoses = ()
    if state.status == "failed":
        diagnoses = (Diagnosis("loss-not-finite", "error", message),)
    return Facts(
        name=s.folder.name,
        title=s.about.title or f"{type(s.model).__name__} trained with {s.loss.name}",
        task=s.about.task or _TASKS[s.loss.kind],
        status=state.status,
        command=s.about.command or shlex.join(["python", *sys.argv]),
        data=s.data,
        model=describe_model(s.model),
        optimizer=f"{describe_optimizer(s.optimizer)}, schedule {s.schedule}",
        formula=formula_of(s.optimizer),
        steps=state.step,
        epochs=state.step / s.plan.steps_per_epoch if s.plan.steps_per_epoch else 0.0,
        seconds=state.seconds,
        samples_per_second=state.samples / state.train_seconds if state.train_seconds else 0.0,
        metrics=metrics,
        recipe=(*s.about.recipe, *(choice for choice in s.choices if choice.key not in known)),
        decay=decay_of(s.model, s.optimizer),
        environment=describe_environment(s.device, s.threads, s.precision_name),
        evaluation=evaluation,
        diagnoses=diagnoses,
    )
