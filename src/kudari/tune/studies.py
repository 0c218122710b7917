"""Optuna, which comes with the extra "tune": where it keeps its studies, and that it keeps quiet."""

from __future__ import annotations

import importlib.util
import sqlite3
from pathlib import Path
from typing import Any

from kudari.errors import MissingExtraError
from kudari.tune.results import Better

DATABASE = "study.db"


def need_optuna(needed_for: str) -> None:
    """Refuse to begin without Optuna.

    Raises:
        MissingExtraError: it is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingExtraError("optuna", needed_for, "tune")


def open_study(folder: Path, name: str, better: Better, **parts: Any) -> Any:
    """Open or begin the study in ``folder/study.db``.

    Args:
        folder: created if missing.
        name: of the study.
        better: which way is up.
        parts: ``sampler`` and ``pruner`` of Optuna.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DATABASE

    def connect() -> sqlite3.Connection:
        # Waiting for the disk after each of a thousand small writes would take longer than small runs do. A
        # killed process loses nothing by this; a power cut may lose the last second.
        connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    storage = optuna.storages.RDBStorage(f"sqlite:///{path.as_posix()}", engine_kwargs={"creator": connect})
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize" if better == "higher" else "minimize",
        load_if_exists=True,
        **parts,
    )


def close_study(study: Any) -> None:
    """Give the database's file back."""
    storage = getattr(study, "_storage", None)
    backend = getattr(storage, "_backend", storage)
    if backend is not None and hasattr(backend, "engine"):
        backend.remove_session()
        backend.engine.dispose()
