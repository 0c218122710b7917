"""The end of a run: final weights, the examination, and the facts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import nn

from kudari.models import describe as describe_model
from kudari.record import Diagnosis, Evaluation, Facts, RunDir
from kudari.record.facts import Task
from kudari.train.checkpoint import save_tensors
from kudari.train.environment import describe_environment
from kudari.train.evaluation import Examined, examine
from kudari.train.options import Options
from kudari.train.prepare import Prepared, precision_of
from kudari.train.run import Run
from kudari.train.signals import StopRequest
from kudari.train.state import best_by
from kudari.train.update import decay_of, describe_optimizer, formula_of

_TASKS: dict[str, Task] = {"classes": "classification", "values": "regression", "own": "other"}


def conclude(
    s: Prepared, o: Options, folder: RunDir, stop: StopRequest, found: tuple[Diagnosis, ...] = ()
) -> Run:
    """Write ``model.safetensors`` and ``facts.json``.

    After a failure there is no new ``model.safetensors``: the last good weights are in a checkpoint.

    Args:
        s: a run whose last step is done.
        o: its options.
        folder: where it is written.
        stop: ends the examination early.
        found: what the doctor found.
    """
    values = dict(s.state.valid)
    if o.keep == "best" and s.state.best_model is not None and s.state.status != "failed":
        s.model.load_state_dict(s.state.best_model, strict=False)
        values = {name: s.state.best[name] for name in ("loss", *(m.name for m in s.metrics))}
    if s.state.status != "failed":
        _write_model(s.model, folder.model)
    metrics = _final_metrics(s, values)
    message = _message(s, folder, stop)
    evaluation = _evaluation(s, precision_of(o, s.device), stop)
    facts = _facts(s, o, folder, metrics, evaluation, _diagnoses(s, message, found))
    facts.write(folder.facts)
    return Run(
        dir=folder,
        model=s.model,
        metrics=metrics,
        seconds=s.state.seconds,
        steps=s.state.step,
        facts=facts,
        status=s.state.status,
        message=message,
    )


def _write_model(model: nn.Module, path: Path) -> None:
    draft = path.with_suffix(".draft")
    save_tensors(draft, {k: v for k, v in model.state_dict().items() if isinstance(v, torch.Tensor)})
    draft.replace(path)


def _final_metrics(s: Prepared, valid: Mapping[str, float]) -> dict[str, float]:
    names = ("loss", *(metric.name for metric in s.metrics))
    final = {f"train_{name}": s.state.train[name] for name in names if name in s.state.train}
    final.update({f"valid_{name}": valid[name] for name in names if name in valid})
    if s.state.best:
        final[f"best_valid_{best_by(s.metrics)[0]}"] = s.state.best["value"]
        final["best_step"] = s.state.best["step"]
    return final


def _evaluation(
    s: Prepared, precision: Callable[[], AbstractContextManager[object]], stop: StopRequest
) -> Evaluation | None:
    if s.valid is None or s.state.status != "finished":
        return None
    about = s.about
    how = Examined(s.loss, about.classes, about.valid_names, about.picture, about.units)
    return examine(s.model, s.valid, how, precision=precision, stopped=stop.is_set)


def _message(s: Prepared, folder: RunDir, stop: StopRequest) -> str:
    state, where = s.state, str(folder.path)
    saved = any(folder.checkpoints.glob("step-*"))
    if state.status == "finished":
        return ""
    if state.status == "failed":
        return (
            f"{state.message} The last good checkpoint is in {folder.checkpoints}."
            if saved
            else state.message
        )
    done = f"Stopped by {stop.signal_name} at step {state.step:,} of {s.plan.steps:,}."
    again = f"kudari train --resume {shlex.quote(where)}, or fit(..., resume={where!r})"
    return f"{done} To go on from there: {again}." if saved else f"{done} Nothing was trained yet."


def _diagnoses(s: Prepared, message: str, found: tuple[Diagnosis, ...]) -> tuple[Diagnosis, ...]:
    failed = (Diagnosis("loss-not-finite", "error", message),) if s.state.status == "failed" else ()
    return (*failed, *found)


def _facts(
    s: Prepared,
    o: Options,
    folder: RunDir,
    metrics: Mapping[str, float],
    evaluation: Evaluation | None,
    diagnoses: tuple[Diagnosis, ...],
) -> Facts:
    state = s.state
    known = {choice.key for choice in s.about.recipe}
    return Facts(
        name=folder.name,
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
        environment=describe_environment(s.device, s.threads, o.precision),
        evaluation=evaluation,
        diagnoses=diagnoses,
    )
