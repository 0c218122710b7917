"""Combinations that cannot work, found before anything starts.

Each check looks at a configuration whose types are right and yields problems. The same checks run twice: on
what the text says, and again when the data have been read and more is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kudari.cli._config.schema import Config, is_known
from kudari.cli._config.source import KeyPath, Source, dotted
from kudari.cli._rules import check_optimizer
from kudari.errors import KudariError, Problem, did_you_mean

Kind = Literal["image", "table", "array"]
Task = Literal["classification", "regression"]

SUFFIX_KIND: dict[str, Kind] = {".csv": "table", ".tsv": "table", ".parquet": "table", ".npz": "array"}
METRIC_TASK: dict[str, Task] = {
    "accuracy": "classification",
    "error": "classification",
    "top5": "classification",
    "perplexity": "classification",
    "mae": "regression",
    "rmse": "regression",
    "r2": "regression",
}
MODEL_KEYS = {"mlp": ("widths",), "cnn": ("width", "depth", "downsample")}
LOSS_TASK: dict[str, Task] = {
    "cross_entropy": "classification",
    "mse": "regression",
    "l1": "regression",
    "huber": "regression",
}


@dataclass(frozen=True)
class Known:
    """What is known beside the text.

    Attributes:
        kind, task: of the data, None while they are unknown.
        steps, steps_per_epoch: optimizer steps of the whole run and of one epoch, None while unknown.
    """

    kind: Kind | None = None
    task: Task | None = None
    steps: int | None = None
    steps_per_epoch: int | None = None


@dataclass(frozen=True)
class _View:
    config: Config
    source: Source
    known: Known

    def problem(self, key: str, message: str) -> Problem:
        path: KeyPath = tuple(key.split("."))
        return Problem(key, message, self.source.place(path))

    def place(self, key: str) -> str:
        return self.source.place(tuple(key.split(".")))


def check(config: Config, source: Source, known: Known) -> list[Problem]:
    """Every problem of ``config`` that ``known`` is enough to see."""
    path = config.data.path
    suffix_kind = SUFFIX_KIND.get(Path(path).suffix.lower()) if path else None
    kind = known.kind or ("image" if path == "digits" else suffix_kind)
    task = known.task or ("classification" if path == "digits" else config.data.task)
    view = _View(config, source, dataclasses.replace(known, kind=kind, task=task))
    return [problem for one in CHECKS for problem in one(view)]


def _length(view: _View) -> Iterator[Problem]:
    if view.config.epochs is not None and view.config.steps is not None:
        yield view.problem(
            "steps",
            f"the length of the run is given twice: epochs ({view.place('epochs')}) and steps. "
            "Keep one; the other one is switched off with =null.",
        )


def _data_is_there(view: _View) -> Iterator[Problem]:
    path = view.config.data.path
    if path is None:
        yield view.problem(
            "data.path",
            "is missing: nothing says what to train on. Write data: digits, or the path of an image folder, "
            "a .csv, .parquet or .npz file.",
        )
    elif path != "digits" and not Path(path).expanduser().exists():
        near = _similar_file(path)
        relative = "" if Path(path).is_absolute() else f" in {Path.cwd()}"
        yield view.problem("data.path", f"there is no {path!r}{relative}.{near}")


def _similar_file(path: str) -> str:
    parent = Path(path).expanduser().parent
    names = [p.name for p in parent.iterdir()] if parent.is_dir() else []
    return did_you_mean(Path(path).name, [*names, *(["digits"] if parent == Path() else [])])


def _built_in_data(view: _View) -> Iterator[Problem]:
    if view.config.data.path != "digits":
        return
    for key in ("target", "task", "image_size", "valid_fraction"):
        value = getattr(view.config.data, key)
        settled = {"task": "classification", "valid_fraction": 0.2}.get(key)
        if value is not None and value != settled:
            yield view.problem(f"data.{key}", "is for your own data; the built-in digits have it settled.")


def _pictures_only(view: _View) -> Iterator[Problem]:
    kind = view.known.kind
    if kind == "table" or kind == "array":
        noun = "a table" if kind == "table" else "arrays"
        if kind == "table" and view.config.data.image_size is not None:
            yield view.problem("data.image_size", f"is for pictures, and the data are {noun}.")
        for key in ("random_shift", "random_flip"):
            if getattr(view.config.data, key):
                yield view.problem(f"data.{key}", f"is for pictures, and the data are {noun}.")


def _model_fits(view: _View) -> Iterator[Problem]:
    model = view.config.model
    if model.name == "cnn" and view.known.kind == "table":
        yield view.problem(
            "model.name",
            "a cnn looks for neighbouring pixels, and a table has none. Use model=mlp for tables.",
        )
    if model.name is None:
        given = [
            name for name, keys in MODEL_KEYS.items() if any(getattr(model, key) is not None for key in keys)
        ]
        if len(given) > 1:
            yield view.problem(
                "model.name", "is missing: widths belong to an mlp, width, depth and downsample to a cnn."
            )
        return
    for other, keys in MODEL_KEYS.items():
        for key in keys:
            if other != model.name and getattr(model, key) is not None:
                own = ", ".join((*MODEL_KEYS[model.name], "dropout", "activation"))
                yield view.problem(
                    f"model.{key}",
                    f"belongs to model={other}, and the model is {model.name}, which takes {own}.",
                )
    if model.name == "cnn" and model.activation not in (None, "relu"):
        yield view.problem("model.activation", "can be chosen for an mlp; the cnn uses relu.")


def _loss_fits(view: _View) -> Iterator[Problem]:
    loss, task = view.config.loss, view.known.task
    wants = LOSS_TASK.get(loss.name or "")
    if wants is not None and task is not None and wants != task:
        fitting = ", ".join(name for name, of in LOSS_TASK.items() if of == task)
        what = "classes" if task == "classification" else "values"
        yield view.problem(
            "loss.name", f"{loss.name} is a {wants} loss, and the target holds {what}. Use {fitting}."
        )
    if loss.label_smoothing and (wants == "regression" or (loss.name is None and task == "regression")):
        yield view.problem("loss.label_smoothing", "belongs to cross_entropy, the loss for classes.")


def _metrics_fit(view: _View) -> Iterator[Problem]:
    for index, name in enumerate(view.config.metrics or ()):
        path: KeyPath = ("metrics", index)
        place = view.source.place(path)
        task = METRIC_TASK.get(name)
        if task is None:
            known = ", ".join(METRIC_TASK)
            message = f"there is no metric {name!r}.{did_you_mean(name, METRIC_TASK)} There are: {known}."
            yield Problem(dotted(path), message, place)
        elif view.known.task is not None and task != view.known.task:
            yield Problem(dotted(path), f"{name} is for {task}, and the task is {view.known.task}.", place)


def _optimizer_fits(view: _View) -> Iterator[Problem]:
    optimizer = view.config.optimizer
    values = {k: v for k, v in optimizer.model_dump().items() if k != "name" and v is not None}
    for key, message in check_optimizer(optimizer.name or "adamw", values):
        yield view.problem(f"optimizer.{key}", message)


def _schedule_fits(view: _View) -> Iterator[Problem]:
    text = view.config.schedule
    if text is None:
        return
    from kudari.schedules import parse  # torch is not needed to read a schedule

    try:
        schedule = parse(text)
        if view.known.steps is not None:
            schedule.bind(
                view.known.steps,
                steps_per_epoch=view.known.steps_per_epoch,
                batch_size=view.config.batch_size,
            )
    except KudariError as error:
        yield view.problem("schedule", str(error))


def _from_recipe_is_known(view: _View) -> Iterator[Problem]:
    for index, key in enumerate(view.config.from_recipe):
        if not is_known(tuple(key.split("."))):
            path: KeyPath = ("from_recipe", index)
            yield Problem(dotted(path), f"{key!r} is not a key.", view.source.place(path))


CHECKS: Iterable[Callable[[_View], Iterator[Problem]]] = (
    _length,
    _data_is_there,
    _built_in_data,
    _pictures_only,
    _model_fits,
    _loss_fits,
    _metrics_fit,
    _optimizer_fits,
    _schedule_fits,
    _from_recipe_is_known,
)
