"""What is seen while a run is going on: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

COST_SHARE = 0.01
"""Drawing takes at most this share of the time: after a redraw of 2 ms the next waits at least 200 ms."""
BAR_SECONDS = 0.1
LINE_SECONDS = 10.0


@dataclass(frozen=True)
class Now:
    """The state of a run at one moment.

    Attributes:
        step, total_steps: optimizer steps done, and of the whole run.
        epoch: passes over the data, None where their length is not known.
        loss: mean since the last log line.
        metric: name and value of the first metric, the latest known.
        lr: learning rate.
        samples_per_second: training throughput.
        seconds_left: estimate, None at the start.
    """

    step: int
    total_steps: int
    epoch: float | None
    loss: float
    metric: tuple[str, float] | None
    lr: float
    samples_per_second: float
    seconds_left: float | None


class Progress(Protocol):
    """Shows a run; the user's own object may stand in."""

    def due(self, now: float) -> bool:
        """Whether it is time for a redraw; called often, with ``time.perf_counter()``."""
        ...

    def show(self, now: Now) -> None:
        """Draw."""
        ...

    def say(self, text: str) -> None:
        """Print one sentence."""
        ...

    def close(self) -> None:
        """Leave the output tidy."""
        ...


class Silent:
    """Shows nothing."""

    def due(self, now: float) -> bool:
        return False

    def show(self, now: Now) -> None:
        return

    def say(self, text: str) -> None:
        return

    def close(self) -> None:
        return


class Throttle:
    """Decides when to draw: not before ``seconds`` have passed, nor before drawing is cheap enough."""

    def __init__(self, seconds: float, share: float = COST_SHARE) -> None:
        self._seconds, self._share = seconds, share
        self._next = time.perf_counter() + seconds

    def due(self, now: float) -> bool:
        return now >= self._next

    def drawn(self, started: float, ended: float) -> None:
        """Take note of what a redraw cost, in seconds of ``time.perf_counter()``."""
        self._next = ended + max(self._seconds, (ended - started) / self._share)


class Lines:
    """Plain lines for logs and pipes, at most one in ten seconds."""

    def __init__(self, stream: TextIO, seconds: float = LINE_SECONDS) -> None:
        self._stream, self._throttle = stream, Throttle(seconds)

    def due(self, now: float) -> bool:
        return self._throttle.due(now)

    def show(self, now: Now) -> None:
        started = time.perf_counter()
        epoch = "" if now.epoch is None else f" · epoch {now.epoch:.1f}"
        self.say(f"step {now.step:,}/{now.total_steps:,}{epoch} · {describe(now)}")
        self._throttle.drawn(started, time.perf_counter())

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        return


class Bar:
    """A progress bar drawn by rich, without its refresh thread, which would interrupt the loop."""

    def __init__(self, stream: TextIO, seconds: float = BAR_SECONDS) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._throttle = Throttle(seconds)
        self._bar = RichProgress(
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(file=stream, force_terminal=True),
            auto_refresh=False,
        )
        self._task: Any = None

    def due(self, now: float) -> bool:
        return self._throttle.due(now)

    def show(self, now: Now) -> None:
        started = time.perf_counter()
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=now.total_steps, text="")
        self._bar.update(self._task, completed=now.step, text=describe(now), refresh=True)
        self._throttle.drawn(started, time.perf_counter())

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


def describe(now: Now) -> str:
    """Return the numbers of one moment in a line, such as ``loss 0.31 · accuracy 0.92 · lr 0.001``."""
    parts = [f"loss {now.loss:.3g}"]
    if now.metric is not None:
        parts.append(f"{now.metric[0]} {now.metric[1]:.4g}")
    parts += [f"lr {now.lr:.2g}", f"{now.samples_per_second:,.0f} samples/s"]
    if now.seconds_left is not None:
        parts.append(f"{duration(now.seconds_left)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Return a length of time as people say it.

    Example:
        >>> duration(4.2), duration(75), duration(7260)
        ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def make_progress(choice: bool | Progress, stream: TextIO | None = None) -> Progress:
    """Return a bar on a terminal, lines elsewhere, nothing for False, or the user's own object.

    Args:
        choice: ``True``, ``False`` or an object with the methods of :class:`Progress`.
        stream: standard error by default, so that standard output stays free for results.
    """
    if choice is False:
        return Silent()
    if choice is not True:
        return choice
    stream = stream or sys.stderr
    if stream.isatty():
        try:
            return Bar(stream)
        except ImportError:  # rich comes with the extra "train"
            return Lines(stream)
    return Lines(stream)
