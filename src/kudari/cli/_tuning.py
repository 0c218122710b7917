"""What ``kudari tune`` and ``kudari compare`` share: configurations as trials, folders found again."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kudari.cli._screen import Screen
from kudari.errors import ArgumentError

if TYPE_CHECKING:
    from kudari.cli._training import Prepared
    from kudari.data import Bundle
    from kudari.train.options import Options
    from kudari.tune.trial import Trials

ROOT = Path("runs")
REQUEST = "request.json"
WORDS = "PRESET | CONFIG.yaml | key=value"


def add_output(parser: argparse.ArgumentParser, resumable: bool) -> None:
    """Add the options that every tuning command has."""
    parser.add_argument("--out", metavar="DIR", help="folder for the page (default: runs/NAME-COMMAND-1 ...)")
    if resumable:
        parser.add_argument(
            "--resume", metavar="DIR", help="go on with what is in this folder, as it was begun"
        )
    parser.add_argument(
        "--json", action="store_true",
        help="print one JSON object as the last line of standard output; the rest goes to standard error",
    )  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors (and the JSON)")


class Printer:
    """Says sentences where they belong: standard output, standard error beside JSON, or nowhere."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.screen = Screen(sys.stderr if args.json else sys.stdout)
        self._quiet = args.quiet

    def say(self, text: str = "", style: str = "") -> None:
        """Print a paragraph, at once."""
        if not self._quiet:
            self.screen.say(text, style=style)
            self.screen.stream.flush()

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
        """Print columns."""
        if not self._quiet:
            self.screen.table(header, rows, right)


class Opener:
    """Opens the trials of configurations; the data are read once.

    Args:
        words: preset or file and settings that all of them share.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._bundles: dict[str, Bundle] = {}

    def prepare(self, *more: str) -> Prepared:
        """The configuration with further settings, its data and model."""
        from kudari.cli import _training as training
        from kudari.cli._config.load import load

        loaded = load([*self.words, *more])
        key = loaded.config.data.model_dump_json()
        prepared = training.prepare(loaded, self._bundles.get(key))
        self._bundles[key] = prepared.bundle
        return prepared

    @contextmanager
    def open(self, *more: str) -> Iterator[Trials]:
        """Trials of the configuration with further settings."""
        from kudari.tune.trial import open_trials

        prepared = self.prepare(*more)
        bundle = prepared.bundle
        with open_trials(prepared.model, bundle.train, bundle.valid, options_of(prepared)) as trials:
            yield trials


def options_of(prepared: Prepared) -> Options:
    """The arguments of ``fit`` that shape the run."""
    from kudari.cli._training import shape_of
    from kudari.train import About
    from kudari.train.options import Options

    return Options(**shape_of(prepared), about=About.of(prepared.bundle), progress=False)


def new_folder(args: argparse.Namespace, stem: str) -> Path:
    """The folder asked for, which must be new or empty, or the first free ``runs/STEM-N``.

    Raises:
        ArgumentError: there is something in it already.
    """
    if args.out is not None:
        path = Path(args.out).expanduser()
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            again = " Go on with it: --resume " + shlex.quote(str(path)) if (path / REQUEST).is_file() else ""
            raise ArgumentError(f"{path} is not empty.{again}", fix="Choose another folder with --out DIR.")
        path.mkdir(parents=True, exist_ok=True)
        return path
    number = 1
    while True:
        path = ROOT / f"{stem}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        return path


def write_request(folder: Path, request: dict[str, Any]) -> None:
    """Keep what was asked for, so that it can be gone on with."""
    (folder / REQUEST).write_text(json.dumps(request, indent=1) + "\n", encoding="utf-8")


def read_request(text: str, command: str) -> tuple[Path, dict[str, Any]]:
    """The folder to go on with, and what was asked for there.

    Raises:
        ArgumentError: it is no such folder, or one of another command.
    """
    folder = next((p for p in (Path(text).expanduser(), ROOT / text) if (p / REQUEST).is_file()), None)
    if folder is None:
        raise ArgumentError(f"{text} has no {REQUEST}.", fix=f"Pass the folder of a `kudari {command}`.")
    try:
        request: dict[str, Any] = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ArgumentError(f"{folder / REQUEST} is damaged: {error}.", fix="Begin anew.") from error
    if request.get("command") != command:
        raise ArgumentError(
            f"{folder} is of `kudari {request.get('command')}`.",
            fix=f"Pass the folder of a `kudari {command}`.",
        )
    return folder, request


def again_command(command: str, words: Sequence[str]) -> str:
    """The shell command that asks for the same."""
    return shlex.join(["kudari", *command.split(), *words])


def data_arguments(words: Sequence[str]) -> list[str]:
    """Words with paths of data made absolute, so that they are found from anywhere."""
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        path = (
            Path(value).expanduser() if equals and key in ("data", "data.path") else Path(word).expanduser()
        )
        if path.exists() and value != "digits":
            word = (
                f"{key}={path.resolve()}" if equals and key in ("data", "data.path") else str(path.resolve())
            )
        found.append(word)
    return found
