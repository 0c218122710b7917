"""The stream between the patches, which see calls, and the trackers, which keep facts."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

EVENTS = (
    "optimizer_built", "step_begins", "step_ends", "backward_begins", "backward_ends", "loss_called",
    "clipped", "scheduler_built", "scheduler_stepped", "scaler_steps", "scaler_unscaled", "state_loads",
    "mode_called", "iterator_started", "batch_loaded", "iterator_ended", "sampler_iterated", "ddp_built",
    "dropout_drawn", "compared", "reduced", "read_to_host",
)  # fmt: skip

FIRST_SAMPLED_STEPS = 20


class StopTrainingError(RuntimeError):
    """Raised inside the watched code by ``stop_on`` when a finding of that level is certain."""


class Stream:
    """Listeners by event name, and the clock of the run.

    Attributes:
        tick: optimizer steps so far (the most of any optimizer).
        sampled: statistics are taken at this step.
        quiet: above 0 while the doctor itself works or a backward recomputes; nothing is recorded.
        in_backward: above 0 while the engine runs.
        in_step: the optimizers whose ``step`` is on the stack.
        every: steps between samples after the first ones.
        first: so many steps at the start are all sampled.
        resting: the loop has proved ordinary, and this step is not watched in full.
        turns: called with ``tick`` when it has changed.
        failures: what went wrong in the doctor itself.
        spent: seconds inside the trackers.
    """

    def __init__(self, every: int = 25, first: int = FIRST_SAMPLED_STEPS) -> None:
        self.every, self.first = every, first
        self.tick = 0
        self.sampled = True
        self.quiet = 0
        self.in_backward = 0
        self.in_step: list[Any] = []
        self.resting = False
        self.turns: Callable[[int], None] = lambda tick: None
        self.failures: list[str] = []
        self.spent = 0.0
        self._end: tuple[int, Callable[[], None]] | None = None
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)
        self.listeners: dict[str, tuple[Callable[..., None], ...]] = dict.fromkeys(EVENTS, ())

    def ends_at(self, steps: int, close: Callable[[], None]) -> None:
        """Call ``close`` at the first backward after so many steps, where no hook of a step is running."""
        self._end = steps, close

    def is_over(self) -> bool:
        """True from the moment the watching has ended; closes it."""
        if self._end is None or self.tick < self._end[0]:
            return False
        self._end[1]()
        return True

    def subscribe(self, listener: object) -> None:
        """Connect every method of ``listener`` that is named like an event."""
        for event in EVENTS:
            method = getattr(listener, event, None)
            if method is not None:
                self.listeners[event] = (*self.listeners[event], method)

    def emit(self, event: str, *args: Any) -> None:
        """Tell every listener, unless the doctor itself is at work."""
        if self.quiet:
            return
        began = perf_counter()
        for listener in self.listeners[event]:
            try:
                listener(*args)
            except StopTrainingError:
                raise
            except Exception as error:
                self.fails(listener, error)
        self.spent += perf_counter() - began

    def guard(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a tracker; what goes wrong in it must not reach the script."""
        began = perf_counter()
        try:
            return function(*args)
        except Exception as error:
            self.fails(function, error)
            return None
        finally:
            self.spent += perf_counter() - began

    def fails(self, function: Callable[..., Any], error: Exception) -> None:
        """Remember a failure of the doctor itself; the report shows it."""
        self.quiet = 0
        if len(self.failures) < 20:
            name = getattr(function, "__qualname__", str(function))
            self.failures.append(f"{name}: {type(error).__name__}: {error}")

    def advance(self, steps: int) -> None:
        """Move the clock to ``steps`` optimizer steps."""
        if steps > self.tick:
            self._last = perf_counter(), self.spent
            self._first = self._first or self._last
            self.tick = steps
            self.sampled = steps < self.first or steps % self.every == 0
            self.turns(steps)

    def cost(self) -> float | None:
        """Time of the training loop with the doctor over its time without; None for a single step."""
        if self._first is None or self._last[0] <= self._first[0]:
            return None
        total, own = self._last[0] - self._first[0], self._last[1] - self._first[1]
        return total / (total - own) if total > own else None
