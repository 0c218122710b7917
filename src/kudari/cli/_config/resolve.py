"""A configuration with gaps, and what is known of the data, become a complete one; every gap gets its
reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kudari.cli._config.checks import Kind, Known, Task, check
from kudari.cli._config.load import Loaded
from kudari.cli._config.messages import shown
from kudari.cli._config.schema import Block, Config
from kudari.cli._config.source import COMMAND_LINE, KeyPath, Source, parse_value
from kudari.cli._config.write import values_of
from kudari.cli._rules import find_rule, plain_name, rules, settings
from kudari.errors import ConfigError
from kudari.record import Choice
from kudari.tune import recipe

CLIP_NORM = ("clip_norm",)  # the one key where null is a value
SIZES = ("in_features", "out_features", "in_channels")  # arguments a configuration may not set


@dataclass(frozen=True)
class Resolved:
    """A complete configuration.

    Attributes:
        config: with a value for everything that decides the run.
        choices: what was decided by whom, and why, in the order to read.
        steps: optimizer steps of the whole run.
    """

    config: Config
    choices: tuple[Choice, ...]
    steps: int


@dataclass(frozen=True)
class Seen:
    """What the data and the model tell.

    Attributes:
        kind, task, samples: of the data; samples are those trained on.
        shape: of one input, such as (3, 64, 64).
        parameters: trainable parameters of the model.
        target: column that is predicted, empty where the data are no table.
    """

    kind: Kind
    task: Task
    samples: int
    shape: tuple[int, ...]
    parameters: int
    target: str = ""


def check_data(loaded: Loaded, kind: Kind, task: Task) -> None:
    """Refuse a configuration that does not fit the data, before a model is built.

    Raises:
        ConfigError: with every problem.
    """
    problems = check(loaded.config, loaded.source, Known(kind, task))
    if problems:
        raise ConfigError(problems)


def model_spec(config: Config, shape: tuple[int, ...], default: Mapping[str, Any]) -> dict[str, Any]:
    """The model's name and arguments: the default for the data, changed where the configuration says so.

    Args:
        config: its ``model`` block may be empty.
        shape: of one input.
        default: what suits the data, as :func:`kudari.models.default_spec` gives it.
    """
    given = {key: value for key, value in config.model.model_dump().items() if value is not None}
    if "name" not in given and any(key in given for key in ("width", "depth", "downsample")):
        given["name"] = "cnn"
    if "name" not in given and "widths" in given:
        given["name"] = "mlp"
    name = given.get("name", default["name"])
    spec = dict(default) if name == default["name"] else _other_model(name, shape, default)
    return {**spec, **given}


def _fill_data(block: dict[str, Any], seen: Seen) -> None:
    """What the data turned out to be, so that the same is read again."""
    block["task"] = seen.task
    if seen.kind == "table":
        block["target"] = seen.target
    if seen.kind == "image":
        height, width = seen.shape[-2:]
        block["image_size"] = height if height == width else [height, width]


def _other_model(name: str, shape: tuple[int, ...], default: Mapping[str, Any]) -> dict[str, Any]:
    sizes: dict[str, Any] = {"name": name, "out_features": default["out_features"]}
    if name == "mlp":
        return {**sizes, "in_features": math.prod(shape), "widths": [128], "dropout": 0.2}
    from kudari.models import depth_for

    depth, downsample = depth_for(shape[-2], shape[-1])
    return {**sizes, "in_channels": shape[0], "width": 32, "depth": depth, "downsample": downsample}


def resolve(loaded: Loaded, spec: Mapping[str, Any], seen: Seen) -> Resolved:
    """Fill every gap.

    Args:
        loaded: the configuration as it was written.
        spec: of the model, from :func:`model_spec`.
        seen: what the data and the model tell.

    Raises:
        ConfigError: for combinations that only now are known to be impossible, such as a warm-up longer than
        the run.
    """
    config = loaded.config
    advice = recipe(
        seen.task,
        samples=seen.samples,
        parameters=seen.parameters,
        optimizer=plain_name(config.optimizer.name) if config.optimizer.name else None,
        kind=spec["name"],
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        epochs=config.epochs,
        steps=config.steps,
        momentum=_momentum(config),
        picture_side=min(seen.shape[-2:]) if spec["name"] == "cnn" else None,
    )
    optimizer = next(choice.value for choice in advice if choice.key == "optimizer.name")
    values = values_of(config)
    choices = [
        _model_choice(loaded, spec, seen),
        *_fill(values, _applicable(config, optimizer, advice), loaded),
    ]
    values["model"] = {k: v for k, v in spec.items() if k not in SIZES}
    choices += _other_choices(loaded, choices, values)
    _fill_rule_defaults(values["optimizer"])
    if config.data.path != "digits":
        _fill_data(values["data"], seen)
    values["data"]["random_shift"] = values["data"]["random_shift"] or 0
    values["data"]["random_flip"] = bool(values["data"]["random_flip"])
    values["out"] = config.out
    values["from_recipe"] = _not_by_hand(loaded, values)
    complete = Config.model_validate(values)
    per_epoch = max(1, math.ceil(seen.samples / (complete.batch_size or 1) / complete.accumulate))
    steps = complete.steps or (complete.epochs or 1) * per_epoch
    problems = check(complete, loaded.source, Known(seen.kind, seen.task, steps, per_epoch))
    if problems:
        raise ConfigError(problems)
    return Resolved(complete, tuple(choices), steps)


def _momentum(config: Config) -> float | None:
    """The momentum that was set, as far as a rate can be derived from it; the optimizer judges the rest."""
    momentum = (config.optimizer.model_extra or {}).get("momentum")
    return momentum if momentum is not None and 0.0 <= momentum < 1.0 else None


def _applicable(config: Config, optimizer: str, advice: Iterable[Choice]) -> list[Choice]:
    """Leave out what the user's other settings make pointless."""
    loss = config.loss.name
    skipped = {
        "epochs": config.steps is not None,
        "loss.label_smoothing": loss not in (None, "cross_entropy"),
        "optimizer.weight_decay": "weight_decay" not in {h.name for h in rules()[optimizer].hypers},
    }
    return [choice for choice in advice if not skipped.get(choice.key, False)]


def _fill(values: dict[str, Any], advice: Iterable[Choice], loaded: Loaded) -> list[Choice]:
    """Write each choice of the recipe into the gaps; the user's own values stay and are marked."""
    done = []
    for choice in advice:
        *blocks, key = path = tuple(choice.key.split("."))
        if not _is_key(values, choice.key):
            done.append(choice)  # explains something that is not a setting
            continue
        target = values[blocks[0]] if blocks else values
        wanted = parse_value(choice.value)
        kept = _written(loaded, path)
        if kept and not (choice.key in loaded.config.from_recipe and loaded.source.get(path) == wanted):
            done.append(_yours(choice.key, target.get(key), loaded.source, path))
        else:
            target[key] = wanted
            done.append(choice)
    return done


def _written(loaded: Loaded, path: tuple[str, ...]) -> bool:
    """Whether a value was written that is not a gap; a null fills the gap of ``clip_norm`` alone."""
    return loaded.source.has(path) and (loaded.source.get(path) is not None or path == CLIP_NORM)


def _yours(key: str, value: Any, source: Source, path: KeyPath) -> Choice:
    text = value if isinstance(value, str) else shown(value)
    return Choice(
        key, text, f"Set in {source.place(path)}.".replace("in command", "on the command"), by="you"
    )


def _is_key(values: Mapping[str, Any], key: str) -> bool:
    first, _, rest = key.partition(".")
    return first in values and (not rest or first == "optimizer" or rest in _fields_of(first))


def _model_choice(loaded: Loaded, spec: Mapping[str, Any], seen: Seen) -> Choice:
    if _by_hand(loaded, ("model", "name")):
        return _yours("model.name", spec["name"], loaded.source, ("model", "name"))
    size = "x".join(map(str, seen.shape))
    if spec["name"] == "cnn":
        why = f"Pictures of {size} numbers: neighbouring pixels belong together, and convolutions use that."
        return Choice("model.name", "cnn", why, "He et al. 2016, Deep Residual Learning")
    return Choice(
        "model.name", "mlp", f"Inputs of {size} numbers are few enough to connect each with every unit."
    )


def _other_choices(loaded: Loaded, done: Iterable[Choice], values: Mapping[str, Any]) -> list[Choice]:
    """Everything else that was set by hand."""
    known = {choice.key for choice in done} | {"data.path", "out", "from_recipe"}
    return [
        _yours(".".join(path), value, loaded.source, path)
        for path, value in _leaves(values)
        if ".".join(path) not in known and _by_hand(loaded, path) and not _is_default(path, value)
    ]


def _not_by_hand(loaded: Loaded, values: Mapping[str, Any]) -> list[str]:
    """Keys to list under ``from_recipe``: a later reader should not take them for somebody's wish."""
    skipped = {("data", "path"), ("out",), ("from_recipe",)}
    return [
        ".".join(path)
        for path, value in _leaves(values)
        if path not in skipped
        and not _by_hand(loaded, path)
        and (path == CLIP_NORM or not _is_default(path, value))
    ]


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from (((key, inner), item) for inner, item in value.items())
        else:
            yield (key,), value


def _by_hand(loaded: Loaded, path: tuple[str, ...]) -> bool:
    """Whether somebody set this value, and not the recipe of the run that wrote the file."""
    listed = ".".join(path) in loaded.config.from_recipe
    return _written(loaded, path) and (not listed or loaded.source.place(path) == COMMAND_LINE)


def _is_default(path: tuple[str, ...], value: Any) -> bool:
    field = Config.model_fields[path[0]]
    if len(path) == 1:
        return bool(field.default == value)
    fields = _fields_of(path[0])
    return path[1] in fields and bool(fields[path[1]].default == value)


def _fields_of(block: str) -> Mapping[str, Any]:
    kind = Config.model_fields[block].annotation
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, Block) else {}


def _fill_rule_defaults(block: dict[str, Any]) -> None:
    """Hyper-parameters nobody spoke of have the rule's own defaults; the file names them all the same."""
    block["name"] = plain_name(block["name"])
    declared = settings(find_rule(block["name"]))
    for name, item in declared.items():
        if block.get(name) is None:
            block[name] = list(item.default) if isinstance(item.default, tuple) else item.default
    for key in [k for k, v in block.items() if k != "name" and k not in declared and v is None]:
        del block[key]
