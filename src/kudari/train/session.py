"""A run from its arguments to its record: prepare, train, conclude."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from kudari.errors import ArgumentError
from kudari.record import MetricsWriter, RunDir, new_rundir
from kudari.train.checkpoint import Checkpoint, find_checkpoint, has_not_saved, save_checkpoint
from kudari.train.conclude import conclude
from kudari.train.environment import choose_device
from kudari.train.loop import Loop
from kudari.train.observation import Observation, observed
from kudari.train.options import Options, write_config
from kudari.train.prepare import Prepared, precision_of, prepare
from kudari.train.progress import Progress, make_progress
from kudari.train.run import Run
from kudari.train.seeds import preserved_rng
from kudari.train.signals import StopRequest
from kudari.train.state import Parts
from kudari.train.threads import using_threads


def run_session(model: nn.Module, train: Any, valid: Any, options: Options) -> Run:
    """Do what :func:`kudari.fit` says."""
    options.check()
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model is a {type(model).__name__}.", fix="Pass a torch.nn.Module.")
    device = choose_device(options.device)
    was_training = model.training
    with preserved_rng(device):
        try:
            # What a resumed run does first is no beginning.
            with observed(options.doctor and options.resume is None) as seen:
                prepared = prepare(model.to(device), train, valid, options, device)
                return _run(prepared, options, seen)
        finally:
            model.train(was_training)


_ONE_SAMPLE = (
    "kudari: a batch held one sample, and batch norm cannot take statistics of one. Where it is the last "
    "batch of an epoch, choose a batch_size that leaves more over, or pass a DataLoader with drop_last=True."
)


def _run(p: Prepared, o: Options, seen: Observation) -> Run:
    folder = _folder(p, o)
    progress = make_progress(o.progress)
    for sentence in (*p.said, *_aloud(p)):
        progress.say(sentence)
    with (
        using_threads(p.threads.count),
        StopRequest() as stop,
        MetricsWriter(folder.metrics, keep_until_step=p.state.step if o.resume else None) as log,
    ):
        try:
            _train(p, o, folder, progress, stop, log)
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                error.add_note(_ONE_SAMPLE)
            raise
        finally:
            progress.close()
        run = conclude(p, o, folder, stop, seen.diagnoses)
    if o.finish is not None:
        o.finish(folder)
    if run.message:
        progress.say(run.message)
    return run


def _train(
    p: Prepared, o: Options, folder: RunDir, progress: Progress, stop: StopRequest, log: MetricsWriter
) -> None:
    def save() -> None:
        log.flush()  # first: lines after the checkpoint are dropped on resume, missing ones are lost
        save_checkpoint(folder.checkpoints, _snapshot(p, o), o.keep_checkpoints)

    parts = Parts(
        model=p.model,
        loss=p.loss,
        metrics=p.metrics,
        optimizer=p.optimizer,
        rate=p.rate,
        valid=p.valid,
        log=log,
        progress=progress,
        stop=stop,
        precision=precision_of(o, p.device) if o.precision == "bf16" else None,
        units=p.about.units,
    )
    Loop(parts, p.plan, p.state, save).run(p.steps)


def _snapshot(p: Prepared, o: Options) -> Checkpoint:
    return Checkpoint(
        step=p.state.step,
        seed=o.seed,
        seconds=p.state.seconds,
        config=p.config,
        model=p.model.state_dict(),
        optimizer=p.optimizer.state_dict(),
        rate=p.rate.state(),
        evaluated_step=p.state.evaluated_step,
        train=p.state.train,
        valid=p.state.valid,
        best=p.state.best,
        best_model=p.state.best_model,
    )


def _aloud(p: Prepared) -> Iterator[str]:
    """Decisions worth a line before training: those the user did not make and might want to."""
    for choice in p.choices:
        if choice.key in ("loss", "epochs"):
            yield f"{choice.key}: {choice.value} ({choice.why})"


def _folder(p: Prepared, o: Options) -> RunDir:
    if o.resume is not None:
        path = Path(o.resume)
        return RunDir(path if has_not_saved(path) else find_checkpoint(path)[0].parent.parent).make()
    if o.out is None:
        folder = new_rundir(Path("runs"), p.about.name or type(p.model).__name__.lower())
    else:
        folder = RunDir(Path(o.out))
        if folder.metrics.exists() or folder.facts.exists():
            raise ArgumentError(
                f"out={folder.path} already holds a run.",
                fix=f"Pass resume={str(folder.path)!r} or another folder.",
            )
        folder.make()
    names = [metric.name for metric in p.metrics]
    write_config(folder.config, o.config or o.describe(loss=p.loss.name, metrics=names, schedule=p.schedule))
    return folder
