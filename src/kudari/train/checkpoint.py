"""Checkpoints: one folder per save, complete or not there, and proof that it is what was written.

``checkpoints/step-000120/`` holds ``model.safetensors``, ``optimizer.safetensors``, ``best.safetensors`` (the
best weights so far, where there is a validation set) and ``state.json`` with everything else and the SHA-256
of each file. It is written under another name, flushed to the disk (files and folder), then renamed, which is
one atomic operation: a killed process or a power cut leaves the previous checkpoints as they were.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kudari.errors import CheckpointError
from kudari.record import RunDir
from kudari.train.tree import Json, flatten, unflatten

_VERSION = 1
_NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had never stopped.

    Attributes:
        step: optimizer steps done; with the seed the whole state of data order, augmentation and dropout.
        seed: of the run.
        seconds: time trained so far.
        config: what decides the course of the run, compared on resume.
        model: the model's state dict.
        optimizer: the optimizer's state dict.
        rate: state of a torch scheduler, None for schedules that are functions of the step.
        evaluated_step: last step with a validation, 0 if none.
        train, valid: the latest values in the log.
        best: value, step and metrics of the best validation so far.
        best_model: the weights of that step, None where nothing was validated yet.
    """

    step: int
    seed: int
    seconds: float
    config: Mapping[str, Json]
    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    rate: Any = None
    evaluated_step: int = 0
    train: Mapping[str, float] = field(default_factory=dict)
    valid: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    best_model: Mapping[str, Any] | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write ``folder/step-NNNNNN`` and remove all but the newest ``keep``.

    Args:
        folder: of all checkpoints of the run.
        checkpoint: what to write; tensors on any device.
        keep: 1 or more.

    Returns:
        The folder of this checkpoint.

    Raises:
        CheckpointError: where the state holds something that is neither a tensor nor JSON.
        OSError: where the disk is full or not writable; older checkpoints are untouched.
    """
    final = folder / f"step-{checkpoint.step:06d}"
    if final.exists() and not damage(final):
        return final  # the same step of the same run: the same content
    draft = folder / f".draft-{final.name}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _write_files(draft, checkpoint)
        if final.exists():
            shutil.rmtree(final)  # torn: of no use to anyone
        draft.rename(final)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sync(folder)
    _prune(folder, final, keep)
    return final


def _write_files(draft: Path, checkpoint: Checkpoint) -> None:
    state: dict[str, Json] = {
        "version": _VERSION,
        "step": checkpoint.step,
        "seed": checkpoint.seed,
        "seconds": checkpoint.seconds,
        "evaluated_step": checkpoint.evaluated_step,
        "config": dict(checkpoint.config),
    }
    parts: dict[str, Mapping[str, Any]] = {
        "model": checkpoint.model,
        "optimizer": {"optimizer": checkpoint.optimizer, "rate": checkpoint.rate},
        "best": checkpoint.best_model or {},
    }
    hashes = {}
    for name, value in parts.items():
        tensors: dict[str, Tensor] = {}
        state[name] = {k: flatten(v, tensors, k) for k, v in value.items()}
        path = draft / f"{name}.safetensors"
        save_tensors(path, tensors)
        hashes[path.name] = _sha256(path)
    values = {"train": checkpoint.train, "valid": checkpoint.valid, "best": checkpoint.best}
    state["values"] = flatten(values, {}, "values")
    state["files"] = hashes
    body = json.dumps(state, sort_keys=True)
    whole = {"sha256": hashlib.sha256(body.encode()).hexdigest(), "state": state}
    target = draft / "state.json"
    target.write_text(json.dumps(whole, sort_keys=True), encoding="utf-8")
    for path in draft.iterdir():
        _sync(path)
    _sync(draft)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; tensors that share memory (tied weights) are written once for each name."""
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        cpu = tensor.detach().cpu().contiguous()
        address = cpu.untyped_storage().data_ptr()
        plain[name] = cpu.clone() if address in seen else cpu
        seen.add(address)
    save_file(plain, path)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Keep the one just written and those before it; later steps belong to a course that was given up."""
    steps = _steps(folder)
    kept = steps[steps.index(newest) :][:keep]
    for path in [*(p for p in steps if p not in kept), *folder.glob(".draft-*")]:
        shutil.rmtree(path, ignore_errors=True)


def _steps(folder: Path) -> list[Path]:
    """Checkpoints of a run, the newest first."""
    found = [(int(m[1]), path) for path in folder.glob("step-*") if (m := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def damage(path: Path) -> str:
    """Return what is wrong with a checkpoint, or an empty string where every byte is as it was written."""
    try:
        state = _read_state(path)
    except CheckpointError as error:
        return error.what
    for name, expected in state["files"].items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if _sha256(path / name) != expected:
            return f"{name} is not what was written (its SHA-256 differs)"
    return ""


def _read_state(path: Path) -> dict[str, Any]:
    try:
        whole = json.loads((path / "state.json").read_text(encoding="utf-8"))
        state: dict[str, Any] = whole["state"]
        intact = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest() == whole["sha256"]
    except FileNotFoundError:
        raise CheckpointError("state.json is missing") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CheckpointError(f"state.json cannot be read ({type(error).__name__})") from error
    if not intact:
        raise CheckpointError("state.json is not what was written (its SHA-256 differs)")
    if state.get("version") != _VERSION:
        raise CheckpointError(f"it has version {state.get('version')!r}; this Kudari reads {_VERSION}")
    return state


def find_checkpoint(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the newest sound checkpoint and a sentence for each damaged one that was passed over.

    Args:
        path: a run's folder, its ``checkpoints`` folder, or one checkpoint.

    Raises:
        CheckpointError: where there is none.
    """
    if _NAME.fullmatch(path.name):
        reason = damage(path)
        if reason:
            raise CheckpointError(
                f"{path} is damaged: {reason}.", fix="Pass the run's folder to use an older one."
            )
        return path, ()
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    said: list[str] = []
    for candidate in _steps(folder):
        reason = damage(candidate)
        if not reason:
            return candidate, tuple(said)
        said.append(f"The checkpoint {candidate.name} is damaged ({reason}); the one before it is used.")
    raise CheckpointError(
        f"There is no {'sound ' if said else ''}checkpoint in {path}.",
        why=" ".join(said),
        fix="Pass the folder of a run that has saved one, or start without resume=.",
    )


def has_not_saved(path: Path) -> bool:
    """Say whether this is the folder of a run that was killed before it saved its first checkpoint."""
    run = RunDir(path)
    begun, ended = run.config.is_file() and run.checkpoints.is_dir(), run.facts.exists()
    return begun and not ended and not _steps(run.checkpoints)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; tensors on the CPU.

    Raises:
        CheckpointError: where it is damaged.
    """
    reason = damage(path)
    if reason:
        raise CheckpointError(f"{path} is damaged: {reason}.", fix="Use an older checkpoint.")
    state = _read_state(path)
    parts = {}
    for name in ("model", "optimizer", "best"):
        try:
            tensors = load_file(path / f"{name}.safetensors")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path / name}.safetensors cannot be read: {error}.") from error
        parts[name] = {k: unflatten(v, tensors) for k, v in state[name].items()}
    values = unflatten(state["values"], {})
    return Checkpoint(
        step=state["step"],
        seed=state["seed"],
        seconds=state["seconds"],
        config=state["config"],
        model=parts["model"],
        optimizer=parts["optimizer"]["optimizer"],
        rate=parts["optimizer"]["rate"],
        evaluated_step=state["evaluated_step"],
        train=values["train"],
        valid=values["valid"],
        best=values["best"],
        best_model=parts["best"] or None,
    )


def check_config(saved: Mapping[str, Json], current: Mapping[str, Json]) -> None:
    """Refuse to continue a run under other settings; both are compared as JSON.

    Raises:
        CheckpointError: with every difference.
    """
    now = json.loads(json.dumps(current))
    keys = [key for key in {**saved, **now} if saved.get(key) != now.get(key)]
    if keys:
        changes = ", ".join(f"{key} was {saved.get(key)!r} and is {now.get(key)!r}" for key in keys)
        raise CheckpointError(
            f"The checkpoint belongs to another run: {changes}.",
            why="The same steps could not be reached from it.",
            fix="Resume with the settings it was made with, or start a new run from its weights.",
        )


def check_weights(saved: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Refuse weights that do not fit a model.

    Raises:
        CheckpointError: with up to five names of each kind of difference.
    """
    shapes = [
        f"{name} {tuple(saved[name].shape)} (the model has {tuple(model[name].shape)})"
        for name in saved
        if isinstance(saved[name], Tensor) and isinstance(model.get(name), Tensor)
        if saved[name].shape != model[name].shape
    ]
    kinds = {
        "missing in the checkpoint": [name for name in model if name not in saved],
        "unknown to the model": [name for name in saved if name not in model],
        "of another shape": shapes,
    }
    found = [f"{kind}: {_short(names)}" for kind, names in kinds.items() if names]
    if found:
        raise CheckpointError(
            f"The checkpoint's weights do not fit the model; {'; '.join(found)}.",
            fix="Build the model as it was built for that run; its config.yaml says how.",
        )


def _short(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
