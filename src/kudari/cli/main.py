"""``kudari``: finds the command, runs it, and turns every error into a message for its reader.

A command is a file of this folder with ``HELP`` (one line), ``configure(parser)`` and ``run(args) -> exit
status``. Files that begin with ``_`` are helpers. A command imports torch inside ``run``, so that ``--help``
is instant.

Exit status: 0 done, 1 failed while running, 2 a mistake in what was asked for, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol

from kudari.cli._machine import version
from kudari.cli._screen import Screen
from kudari.errors import (
    ArgumentError,
    ConfigError,
    DataError,
    HyperError,
    KudariError,
    MissingExtraError,
    RuleError,
    UnsupportedError,
    did_you_mean,
)

HERE = Path(__file__).parent
DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
MISTAKES = (ArgumentError, ConfigError, DataError, HyperError, MissingExtraError, RuleError, UnsupportedError)

# What the package itself depends on; present unless somebody copied the sources alone.
REQUIRED = ("torch", "numpy", "safetensors", "llvmlite")

# The order of `kudari --help`; commands not named here come after these, by name.
ORDER = ("train", "predict", "report", "tune", "compare", "optim", "schedule", "env")

DESCRIPTION = "Trains PyTorch models: the step, the schedule, the run, and the diagnosis when one fails."
EPILOG = """\
begin with:
  kudari train                      train on real handwritten digits, in a few seconds
  kudari train data=my/folder       train on your own pictures or tables
  kudari COMMAND --help             all about a command

options for every command:
  --debug                           show the whole trace of an error"""


class Command(Protocol):
    """What a command's file has to have."""

    HELP: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit status."""
        ...


class Parser(argparse.ArgumentParser):
    """Prints mistakes the way all other mistakes are printed, with a hint instead of the whole usage.

    Options may stand between the other words, of sub-commands too: ``kudari train digits --json epochs=3``.
    """

    _mixing = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of every command, and listed once, with all of them; behind a script it is the script's own.
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        # argparse itself asks a sub-command's parser for this; to mix, it asks for this again, inside.
        takes_the_rest = any(a.nargs in (argparse.PARSER, argparse.REMAINDER) for a in self._actions)
        if self._mixing or takes_the_rest:
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def error(self, message: str) -> NoReturn:
        raise ArgumentError(f"{self.prog}: {message}.", fix=f"See: {self.prog} --help")


def command_names() -> list[str]:
    """Names of all commands, in the order to show them."""
    found = {info.name for info in pkgutil.iter_modules([str(HERE)])}
    names = {name for name in found if not name.startswith("_") and name != "main"}
    return [*(n for n in ORDER if n in names), *sorted(names - set(ORDER))]


def load_command(name: str) -> Command:
    """Import one command."""
    module: Command = importlib.import_module(f"kudari.cli.{name}")
    return module


def main(argv: Sequence[str]) -> int:
    """Run ``kudari ARGV...`` and return the exit status; nothing but ``SystemExit`` of ``--help`` gets
    out."""
    words = list(argv)
    debug = words[:1] == ["--debug"]
    try:
        status = DONE
        chosen = _choose(words[debug:])
        if chosen is not None:
            command, args = chosen
            debug |= "debug" in args
            status = command.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return _closed_pipe()
    except KeyboardInterrupt:
        return _report(Screen(sys.stderr), "Interrupted.", INTERRUPTED, debug)
    except Exception as error:
        return explain(error, debug)


def _choose(words: list[str]) -> tuple[Command, argparse.Namespace] | None:
    """The command and its arguments; None where all that was asked for is said."""
    names = command_names()
    if not words or words[0] in ("-h", "--help", "help"):
        if len(words) > 1 and words[1] in names:
            return _choose([words[1], "--help"])
        _overview(names)
        return None
    if words[0] in ("-V", "--version"):
        Screen().say(f"kudari {version()}")
        return None
    name, *rest = words
    if name.startswith("-"):
        raise ArgumentError(f"kudari: {name} is not an option.", fix="See: kudari --help")
    if name not in names:
        hint = did_you_mean(name, names)
        raise ArgumentError(
            f"kudari: there is no command {name!r}.{hint}", fix=f"Commands: {', '.join(names)}."
        )
    command = load_command(name)
    parser = Parser(
        prog=f"kudari {name}", description=command.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.configure(parser)
    return command, parser.parse_args(rest)


def _overview(names: Sequence[str]) -> None:
    screen = Screen()
    screen.say(DESCRIPTION)
    screen.say("\nusage: kudari COMMAND [...]\n\ncommands:")
    screen.pairs([(name, load_command(name).HELP) for name in names])
    screen.say()
    for line in EPILOG.split("\n"):
        print(line)


def explain(error: Exception, debug: bool) -> int:
    """Print an error for the person who has to do something about it; return the exit status."""
    screen = Screen(sys.stderr)
    if isinstance(error, ConfigError):
        for problem in error.problems:
            text = f"{problem.place}: {problem.key}: {problem.message}"
            print(screen.paint("error: ", "red") + text, file=sys.stderr)
        count = len(error.problems)
        if count > 1:
            screen.say(f"{count} problems; nothing was started.")
        return _report(screen, "", MISTAKE, debug)
    if isinstance(error, KudariError):
        status = MISTAKE if isinstance(error, MISTAKES) else FAILED
        return _report(screen, str(error), status, debug)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _report(screen, "Out of memory. Lower batch_size, or the size of the model.", FAILED, debug)
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return _report(screen, f"{where}{error.strerror}.", FAILED, debug)
    if isinstance(error, ModuleNotFoundError) and error.name in REQUIRED:
        return _report(
            screen, f"{error.name} is not installed. Install it with: pip install kudari", MISTAKE, debug
        )
    summary = " ".join(str(error).split()) or "no message"
    text = f"{_origin(error.__traceback__)}: {type(error).__name__}: {summary}"
    hint = "" if debug else "\nFor the whole trace run it again with --debug."
    return _report(screen, text + hint, FAILED, debug)


def _report(screen: Screen, text: str, status: int, debug: bool) -> int:
    if text:
        print(screen.paint("error: ", "red") + text, file=screen.stream)
    if debug:
        traceback.print_exc(file=screen.stream)
    return status


def _origin(trace: TracebackType | None) -> str:
    """Whose mistake an unexpected exception is, judged by the innermost file that is not a library's."""
    ours = HERE.parent
    for frame in reversed(traceback.extract_tb(trace)):
        path = Path(frame.filename)
        if ours in path.parents:
            return f"a bug in Kudari ({path.relative_to(ours.parent)}:{frame.lineno})"
        if (
            path.is_file()
            and not {"site-packages", "dist-packages"} & set(path.parts)
            and not _is_stdlib(path)
        ):
            return f"an error in your code ({path}:{frame.lineno})"
    return "an unexpected error"


def _is_stdlib(path: Path) -> bool:
    return Path(os.__file__).parent in path.parents


def _closed_pipe() -> int:
    """``kudari ... | head`` closes our output; whatever is still buffered goes nowhere, without complaint."""
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, sys.stdout.fileno())
    except (OSError, ValueError):  # a stdout without a file behind it has nothing to flush either
        pass
    finally:
        os.close(sink)
    return FAILED
