"""The run behind ``kudari train``: from a checked configuration to a folder with a report."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kudari.cli._config.load import Loaded
from kudari.cli._config.resolve import Resolved, Seen, check_data, model_spec, resolve
from kudari.cli._config.schema import Config
from kudari.cli._config.write import to_yaml, values_of
from kudari.cli._screen import Screen
from kudari.errors import ArgumentError
from kudari.record import Facts, RunDir, new_rundir

if TYPE_CHECKING:
    import torch
    from torch import nn

    from kudari.data import Augment, Bundle
    from kudari.train import Run

ROOT = Path("runs")


@dataclass(frozen=True)
class Prepared:
    """Everything that is decided before the first step."""

    bundle: Bundle
    model: nn.Module
    resolved: Resolved

    @property
    def config(self) -> Config:
        return self.resolved.config


def prepare(loaded: Loaded, bundle: Bundle | None = None) -> Prepared:
    """Read the data, build the model and fill the gaps of the configuration.

    Args:
        loaded: the configuration.
        bundle: its data, where they have been read already.

    Raises:
        ConfigError: the configuration does not fit the data.
        DataError: the data cannot be trained on.
    """
    import torch

    from kudari.models import build, default_spec
    from kudari.train.environment import choose_device

    choose_device(loaded.config.device)  # refuse a device that is not there before reading any data
    bundle = bundle or load_bundle(loaded.config)
    check_data(loaded, bundle.kind, bundle.task)
    shape = tuple(bundle.train.inputs.shape[1:])
    spec = model_spec(loaded.config, shape, default_spec(bundle))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(loaded.config.seed)
        model = build(spec)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    seen = Seen(bundle.kind, bundle.task, len(bundle.train), shape, parameters, bundle.target)
    return Prepared(bundle, model, resolve(loaded, spec, seen))


def load_bundle(config: Config) -> Bundle:
    """Read the data that a configuration names."""
    from kudari.data import load_digits, load_path

    data = config.data
    assert data.path is not None, "a checked configuration has data"
    if data.path == "digits":
        return load_digits(seed=data.split_seed)
    return load_path(
        Path(data.path).expanduser(),
        target=data.target,
        task=data.task,
        valid_fraction=data.valid_fraction,
        seed=data.split_seed,
        image_size=data.image_size,
        on_bad=data.on_bad,
    )


def run_folder(config: Config, name: str) -> RunDir:
    """A folder for a new run.

    Raises:
        ArgumentError: the folder asked for holds a run already, or is a file.
    """
    if config.out is None:
        return new_rundir(ROOT, name)
    folder = RunDir(Path(config.out).expanduser())
    if folder.path.is_file():
        raise ArgumentError(
            f"{folder.path} is a file.", fix="Give the run a folder of its own with --out DIR."
        )
    if folder.metrics.exists() or folder.facts.exists():
        raise ArgumentError(
            f"{folder.path} already holds a run.",
            fix=f"Choose another folder, or go on: kudari train --resume {shlex.quote(str(folder.path))}",
        )
    return folder.make()


def announce(screen: Screen, prepared: Prepared, folder: RunDir) -> None:
    """Say what was found, what was inferred and what is about to happen."""
    from kudari.models import describe
    from kudari.train.environment import choose_device

    config, bundle = prepared.config, prepared.bundle
    screen.say(bundle.title, style="bold")
    for sentence in bundle.said:
        screen.say(sentence, indent=2)
    optimizer = config.optimizer
    length = f"{config.epochs} epochs, " if config.epochs is not None else ""
    screen.pairs(
        [
            ("model", describe(prepared.model)),
            ("optimizer", f"{optimizer.name}, lr {optimizer.lr:g}, schedule {config.schedule}"),
            ("length", f"{length}{prepared.resolved.steps:,} steps of {_step_size(prepared)}"),
            ("runs on", str(choose_device(config.device))),
            ("folder", str(folder.path)),
        ]
    )


def _step_size(prepared: Prepared) -> str:
    config, samples = prepared.config, len(prepared.bundle.train)
    if config.batch_size is not None and config.batch_size >= samples:
        return f"all {samples:,} samples"
    batches = f"{config.accumulate} x " if config.accumulate > 1 else ""
    return f"{batches}{config.batch_size} samples"


def train(prepared: Prepared, folder: RunDir, *, resume: bool, progress: bool, doctor: bool = True) -> Run:
    """Train, and draw the report when the run has ended."""
    from kudari.report import write_report
    from kudari.train import About, fit

    config, bundle = prepared.config, prepared.bundle
    again = f"kudari train {shlex.quote(str(folder.config))}"
    text = to_yaml(_portable(config), again)
    folder.pipeline.write_text(json.dumps(bundle.pipeline.to_dict(), indent=1) + "\n", encoding="utf-8")

    def finish(run_dir: RunDir) -> None:
        if not run_dir.config.read_text(encoding="utf-8").startswith("#"):
            run_dir.config.write_text(text, encoding="utf-8")  # the same values, with comments
        write_report(run_dir)

    about = dataclasses.replace(About.of(bundle), recipe=prepared.resolved.choices, command=again)
    with _discarded_unless_begun(folder):
        return fit(
            prepared.model,
            bundle.train,
            bundle.valid,
            **shape_of(prepared),
            keep=config.keep,
            out=None if resume else folder.path,
            resume=folder.path if resume else None,
            log_every=config.log_every,
            eval_every=config.eval_every,
            save_every=config.save_every,
            keep_checkpoints=config.keep_checkpoints,
            doctor=doctor,
            progress=progress,
            about=about,
            config=_portable(config),
            finish=finish,
        )


def shape_of(prepared: Prepared) -> dict[str, Any]:
    """The arguments of ``fit`` that decide the course of a run, beside model and data."""
    config = prepared.config
    return {
        "loss": _loss(config),
        "optimizer": _optimizer(config, prepared.model),
        "schedule": config.schedule,
        "epochs": config.epochs,
        "steps": config.steps,
        "batch_size": config.batch_size or 1,
        "metrics": config.metrics,
        "accumulate": config.accumulate,
        "clip_norm": config.clip_norm,
        "precision": config.precision,
        "augment": _augment(config),
        "seed": config.seed,
        "device": config.device,
        "threads": config.threads,
    }


@contextmanager
def _discarded_unless_begun(folder: RunDir) -> Iterator[None]:
    """Leave no folder behind where the run was refused before its first step."""
    try:
        yield
    except BaseException:
        if not folder.metrics.exists():
            for file in (folder.config, folder.pipeline):
                file.unlink(missing_ok=True)
            with suppress(OSError):  # whatever else is in there is not ours to delete
                folder.checkpoints.rmdir()
                folder.path.rmdir()
        raise


def _portable(config: Config) -> Mapping[str, Any]:
    """The values to write: the data are found from any working directory."""
    values = values_of(config)
    if values["data"]["path"] != "digits":
        values["data"]["path"] = str(Path(values["data"]["path"]).expanduser().resolve())
    return values


def _loss(config: Config) -> Any:
    smoothing = config.loss.label_smoothing
    if not smoothing:
        return config.loss.name
    from torch import nn

    return nn.CrossEntropyLoss(label_smoothing=smoothing)


def _optimizer(config: Config, model: nn.Module) -> Callable[[Any], torch.optim.Optimizer]:
    """Called once the model is on its device; decay leaves biases and norms out, Muon embeddings and head."""
    from kudari import optim

    values = {k: v for k, v in config.optimizer.model_dump().items() if k != "name" and v is not None}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    decay = values.pop("weight_decay", None)
    cls = optim.get(str(config.optimizer.name))
    muon = "use_muon" in inspect.signature(cls).parameters

    def make(parameters: Any) -> torch.optim.Optimizer:
        if decay is None:
            return cls(parameters, **values)
        return cls(optim.groups(model, weight_decay=decay, muon=muon), **values)

    return make


def _augment(config: Config) -> Augment | None:
    from kudari.data import compose, random_flip, random_shift

    parts = []
    if config.data.random_flip:
        parts.append(random_flip())
    if config.data.random_shift:
        parts.append(random_shift(config.data.random_shift))
    return compose(*parts) if parts else None


def learned(facts: Facts) -> str:
    """One sentence about what the model can do now, empty where nothing is known."""
    evaluation = facts.evaluation
    if evaluation is None:
        return ""
    if evaluation.confusion:
        table = evaluation.confusion
        total = sum(map(sum, table))
        right = sum(row[i] for i, row in enumerate(table))
        sentence = f"Learned: {right:,} of {total:,} validation samples are named correctly"
        pairs = [(n, t, p) for t, row in enumerate(table) for p, n in enumerate(row) if t != p and n]
        count, truth, predicted = max(pairs, key=lambda pair: pair[0], default=(0, 0, 0))
        if count < 2:
            return sentence + "."
        names = evaluation.classes
        return f"{sentence}; most often confused: {names[truth]} taken for {names[predicted]}, {count} times."
    if evaluation.residuals:
        errors = sorted(abs(truth - predicted) for truth, predicted in evaluation.residuals)
        median = errors[len(errors) // 2]
        return f"Learned: half of the validation predictions are off by less than {median:.3g}."
    return ""
