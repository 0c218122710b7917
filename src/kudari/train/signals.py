"""Ctrl-C and SIGTERM become a flag that training and evaluation look at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """Turn the first SIGINT or SIGTERM into a flag; a second one raises ``KeyboardInterrupt`` at
    once.

    Handlers are installed in the main thread only (Python allows no other) and the old ones return at the
    end.

    Example:
        >>> with StopRequest() as stop:
        ...     stop.is_set()
        False
    """

    def __init__(self) -> None:
        self.signal_name = ""
        """Which signal it was, such as ``SIGINT``; empty before."""
        self._previous: dict[signal.Signals, Any] = {}

    def is_set(self) -> bool:
        """Whether the run should end."""
        return self.signal_name != ""

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name:
            self._restore()
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


@contextmanager
def children_ignore_interrupts() -> Iterator[None]:
    """Let processes started inside the block ignore SIGINT.

    Ctrl-C reaches the whole process group; loader workers that die of it would take the run with them before
    its checkpoint is written. An ignored signal stays ignored in forked and spawned children.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
