"""Run an unmodified script as ``__main__`` under observation."""

from __future__ import annotations

import contextlib
import linecache
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from kudari.doctor.diagnose import Diagnoses
from kudari.doctor.finding import Finding, Severity
from kudari.doctor.observe.stream import StopTrainingError
from kudari.doctor.places import is_user
from kudari.doctor.watching import Doctor, watch
from kudari.errors import ArgumentError

INTERRUPTED = 130


class EnoughStepsError(StopTrainingError):
    """Ends a script that was to run for some steps only."""


@dataclass(frozen=True)
class Visit:
    """A watched script.

    Attributes:
        status: its exit status.
        diagnoses: what the doctor says.
        cost: time of its training loop over the time without the doctor; None where nobody knows.
        losses: what was given to the busiest backward.
    """

    status: int
    diagnoses: Diagnoses
    cost: float | None = None
    losses: tuple[float, ...] = ()


def visit(
    script: Path,
    arguments: Sequence[str] = (),
    *,
    every: int = 25,
    ignore: Sequence[str] = (),
    stop_on: Severity | None = None,
    static: Sequence[Finding] = (),
    text: str | None = None,
    steps: int | None = None,
) -> Visit:
    """Run a script with its own arguments, working directory and exit status.

    Args:
        script: the file; it runs as ``__main__``, with its folder first in ``sys.path``.
        arguments: what it sees behind its name in ``sys.argv``.
        every, ignore, stop_on: see :func:`kudari.doctor.watch`.
        static: findings of the static side, merged into the result.
        text: run this instead of what the file holds, under its name.
        steps: end the script after so many optimizer steps; its status is then 0.

    Raises:
        ArgumentError: the file does not exist or is not Python, or ``every`` is below 1.
    """
    if every < 1:  # also refused by watch, but there in the midst of what a script may raise
        raise ArgumentError(
            f"every={every} is below 1.", fix="Pass the steps between two samples, such as 25."
        )
    try:
        source = script.read_bytes() if text is None else text.encode()
        code = compile(source, str(script), "exec")
    except OSError as error:
        raise ArgumentError(
            f"{script} cannot be read: {error.strerror}.", fix="Pass the path of a script."
        ) from error
    except (SyntaxError, ValueError) as error:
        raise ArgumentError(f"{script} is not valid Python: {error}.") from error
    linecache.checkcache(str(script))
    if text is not None:
        linecache.cache[str(script)] = (len(text), None, text.splitlines(keepends=True), str(script))
    main = ModuleType("__main__")
    path = str(script.absolute())  # as Python has it: a script may look for its folder from another one
    main.__dict__.update(__file__=path, __builtins__=__builtins__, __spec__=None, __cached__=None)
    kept = sys.modules["__main__"], sys.argv, list(sys.path)
    sys.modules["__main__"], sys.argv = main, [str(script), *arguments]
    sys.path[0:1] = [str(script.resolve().parent)]
    doctor: Doctor | None = None
    status = 0
    try:
        with watch(every=every, ignore=tuple(ignore), stop_on=stop_on) as doctor:
            if steps is not None:
                doctor.run.optimizers.on_step.append(_ender(steps))
            with _ended_threads():
                exec(code, main.__dict__)  # noqa: S102 - running the user's script is the purpose
    except SystemExit as error:
        status = _exit_status(error)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except EnoughStepsError:
        status = 0
    except StopTrainingError as error:
        print(f"kudari doctor: stopped: {error}", file=sys.stderr)
        status = 1
    except BaseException as error:
        _print_traceback(error)
        status = 1
    finally:
        sys.stdout.flush()
        sys.modules["__main__"], sys.argv = kept[0], kept[1]
        sys.path[:] = kept[2]
    assert doctor is not None
    for failure in doctor.run.stream.failures[:3]:
        print(
            f"kudari doctor: a tracker failed and its findings may be incomplete: {failure}", file=sys.stderr
        )
    losses = max(doctor.run.backwards.sites.values(), key=lambda s: s.count, default=None)
    curve = tuple(losses.losses.values) if losses is not None else ()
    return Visit(status, doctor.examine(tuple(static)), doctor.run.stream.cost(), curve)


@contextlib.contextmanager
def _ended_threads() -> Iterator[None]:
    """Wait for the script's own threads that were started inside, as Python does when a script ends.

    Those of libraries, such as an executor's, may be waiting for a word that Python gives them only later.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        for thread in set(threading.enumerate()) - before:
            work = getattr(thread, "_target", None) or type(thread).run
            code = getattr(work, "__code__", None)
            if not thread.daemon and code is not None and is_user(code):
                thread.join()


def _ender(steps: int) -> Callable[[Any, bool], None]:
    def check(record: Any, begins: bool) -> None:
        if not begins and record.steps >= steps:
            raise EnoughStepsError(f"{steps} steps")

    return check


def _exit_status(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _print_traceback(error: BaseException) -> None:
    """Print the traceback as plain Python would, without the doctor's own frames."""
    frames: TracebackType | None = error.__traceback__
    here = str(Path(__file__).parent)
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(here):
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)
