"""The arguments of a run, checked, and as they are written into ``config.yaml``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kudari.errors import ArgumentError, KudariError, did_you_mean
from kudari.record import RunDir
from kudari.train.progress import Progress
from kudari.train.run import About

Precision = Literal["fp32", "bf16"]
Keep = Literal["last", "best"]
DEFAULT_EPOCHS = 20


@dataclass(frozen=True)
class Options:
    """The keyword arguments of :func:`kudari.fit`, which describes them."""

    loss: Any = None
    optimizer: Any = "adamw"
    schedule: Any = "warmup_cosine"
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 64
    lr: float | None = None
    weight_decay: float | None = None
    metrics: Any = None
    accumulate: int = 1
    clip_norm: float | None = None
    precision: Precision = "fp32"
    augment: Any = None
    keep: Keep = "last"
    seed: int = 0
    device: Any = "auto"
    threads: int | Literal["auto"] = "auto"
    out: str | Path | None = None
    resume: str | Path | None = None
    log_every: int | None = None
    eval_every: int | None = None
    save_every: int | None = None
    keep_checkpoints: int = 2
    doctor: bool = True
    progress: bool | Progress = True
    about: About | None = None
    config: Mapping[str, Any] | None = None
    finish: Callable[[RunDir], object] | None = None

    def check(self) -> None:
        """Refuse values outside their range.

        Raises:
            ArgumentError: for the first one found.
        """
        if self.epochs is not None and self.steps is not None:
            raise ArgumentError(
                f"epochs={self.epochs} and steps={self.steps} are both given.",
                why="Each of them alone says how long the run is.",
                fix="Pass one of them.",
            )
        for name in ("epochs", "steps", "batch_size", "accumulate", "log_every", "eval_every", "save_every",
                     "keep_checkpoints"):  # fmt: skip
            _check_count(name, getattr(self, name))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ArgumentError(f"seed={self.seed!r} is not a whole number of 0 or more.", fix="Pass seed=0.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ArgumentError(
                f"clip_norm={self.clip_norm} is not above 0.", fix="Pass 1.0, or None for no limit."
            )
        _check_choice("precision", self.precision, ("fp32", "bf16"))
        _check_choice("keep", self.keep, ("last", "best"))
        if self.resume is not None and self.out is not None:
            raise ArgumentError(
                "out and resume are both given.",
                why="A resumed run goes on in its own folder.",
                fix="Leave out= away.",
            )

    def describe(self, **resolved: Any) -> dict[str, Any]:
        """Return every option that shapes the run as plain values; the user's own objects by their repr."""
        skipped = ("doctor", "progress", "about", "config", "finish", "resume", "out")
        names = [f.name for f in dataclasses.fields(self) if f.name not in skipped]
        return {name: _plain(resolved.get(name, getattr(self, name))) for name in names}


def _check_count(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(
            f"{name}={value!r} is not a whole number of 1 or more.", fix=f"Pass {name}=1 or more."
        )


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise ArgumentError(
            f"{name}={value!r} is not known.{hint}", fix=f"Choose one of {', '.join(choices)}."
        )


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else repr(value)


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write YAML; as JSON, which is YAML too, where PyYAML is not installed.

    Raises:
        KudariError: where a value is neither.
    """
    try:
        import yaml
    except ImportError:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        return
    try:
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    except yaml.YAMLError as error:
        raise KudariError(
            f"config= holds something that YAML cannot say: {error}.", fix="Pass plain values."
        ) from error
    path.write_text(text, encoding="utf-8")
