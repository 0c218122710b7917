"""The metrics log: one JSON object a line, readable while the run is going on.

Every line has ``kind`` (``train``, ``valid`` or ``event``) and ``step`` (optimizer steps done).
``train`` and ``valid`` lines carry ``epoch``, ``seconds`` (since the start of the run) and values such as
``loss``, ``accuracy``, ``lr``, ``grad_norm``, ``samples_per_second``; ``event`` lines, ``name`` and ``text``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

Kind = Literal["train", "valid", "event"]


def _plain(value: Any) -> Any:
    """JSON has no NaN: they are written as text so that every reader can read the line."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


class MetricsWriter:
    """Append lines to ``metrics.jsonl``.

    Args:
        path: the file; created if missing.
        keep_until_step: on resume, lines of later steps are dropped first, so a step is never logged twice.

    Example:
        >>> with MetricsWriter(Path("metrics.jsonl")) as log:  # doctest: +SKIP
        ...     log.write("train", 10, {"loss": 0.5, "lr": 1e-3})
    """

    def __init__(self, path: Path, keep_until_step: int | None = None) -> None:
        if keep_until_step is not None and path.exists():
            kept = [line for line in read_metrics(path) if line["step"] <= keep_until_step]
            path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1 << 16)

    def write(self, kind: Kind, step: int, values: Mapping[str, Any]) -> None:
        """Write one line; nothing reaches the disk before the next :meth:`flush`."""
        line = {"kind": kind, "step": step, **{k: _plain(v) for k, v in values.items()}}
        self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Hand all lines to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of ``metrics.jsonl``; a torn last line (a killed process) is left out."""
    with path.open(encoding="utf-8") as lines:
        for text in lines:
            if not text.endswith("\n"):
                return
            line = json.loads(text)
            yield {
                k: float(v) if v in ("nan", "inf", "-inf") and k not in ("name", "text") else v
                for k, v in line.items()
            }
