"""``kudari train``: from data to a trained model and a report."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from kudari.cli._extras import TRAIN, need
from kudari.cli._runs import find_run
from kudari.cli._screen import Screen
from kudari.errors import ArgumentError

if TYPE_CHECKING:
    from kudari.cli._config.load import Loaded
    from kudari.record import RunDir
    from kudari.train import Run

HELP = "Train on built-in digits, on your own data, or as a configuration says."
EPILOG = """\
examples:
  kudari train                              the built-in handwritten digits
  kudari train data=photos                  a folder with one sub-folder of pictures for each class
  kudari train data=houses.csv data.target=price
  kudari train digits model=cnn epochs=10 optimizer.lr=1e-3
  kudari train my.yaml seed=1               a configuration with one change
  kudari train --resume runs/digits-1       go on with an interrupted run

Every setting that is not given is chosen by the recipe; the report says why. Each run's config.yaml holds
all of them.
"""

INTERRUPTED = 130
STATUS = {"finished": 0, "failed": 1, "interrupted": INTERRUPTED}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "words", nargs="*", metavar="PRESET | CONFIG.yaml | key=value",
        help="a preset (digits) or a configuration file first, if any; then settings such as epochs=20",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="DIR", help="folder for this run (default: runs/NAME-1, runs/NAME-2 ...)"
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run, in its folder")
    parser.add_argument(
        "--json", action="store_true",
        help="print one JSON object as the last line of standard output; the rest goes to standard error",
    )  # fmt: skip
    parser.add_argument("--no-doctor", action="store_true", help="do not watch the first steps for faults")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors (and the JSON)")


def run(args: argparse.Namespace) -> int:
    """Train; returns 0, 1 where training failed, 130 where it was interrupted."""
    need(TRAIN, "kudari train")
    from kudari.cli import _training as training
    from kudari.cli._config.load import load

    screen = Screen(sys.stderr if args.json else sys.stdout)
    folder: RunDir | None = None
    if args.resume is not None:
        folder = find_run(args.resume)
        loaded = _load_resumed(args, folder)
    else:
        loaded = load([*args.words, *([f"out={json.dumps(args.out)}"] if args.out is not None else [])])
    prepared = training.prepare(loaded)
    resume = folder is not None
    folder = folder or training.run_folder(prepared.config, prepared.bundle.name)
    if not args.quiet:
        training.announce(screen, prepared, folder)
        screen.stream.flush()
    result = training.train(
        prepared, folder, resume=resume, progress=not args.quiet, doctor=not args.no_doctor
    )
    # Nobody has 8x8 pictures at hand to predict: after the built-in data, another optimizer is the next step.
    other = "adamw" if prepared.config.optimizer.name == "lion" else "lion"
    following = f"kudari train optimizer={other}" if prepared.config.data.path == "digits" else ""
    _conclude(args, screen, result, following)
    return STATUS[result.status]


def _load_resumed(args: argparse.Namespace, folder: RunDir) -> Loaded:
    from kudari.cli._config.load import load_resumed

    if args.out is not None:
        raise ArgumentError("--out and --resume are both given. A resumed run goes on in its own folder.")
    if folder.facts.exists():
        from kudari.record import Facts

        status = Facts.read(folder.facts).status
        if status == "finished" and folder.model.exists():
            raise ArgumentError(
                f"{folder.path} is finished; there is nothing left to do.",
                fix=f"Train it again with a change, such as: kudari train {folder.config} seed=1",
            )
        if status == "failed" and not any(folder.checkpoints.iterdir()):
            raise ArgumentError(
                f"{folder.path} failed before it had saved anything; there is nothing to go on from.",
                fix=f"Its report says why. Train it anew with a change: kudari train {folder.config} ...",
            )
    return load_resumed(folder.config, args.words)


def _conclude(args: argparse.Namespace, screen: Screen, result: Run, following: str) -> None:
    from kudari.cli import _training as training
    from kudari.report import text_summary

    if not args.quiet:
        if sentence := training.learned(result.facts):
            screen.say(sentence)
        print(text_summary(result.facts, result.dir, following), file=screen.stream)
    if args.quiet and result.message:
        Screen(sys.stderr).say(result.message)
    if args.json:
        print(json.dumps(summary(result)))


def summary(result: Run) -> dict[str, object]:
    """What ``--json`` prints."""
    return {
        "run": str(result.dir.path),
        "status": result.status,
        "metrics": dict(result.metrics),
        "seconds": round(result.seconds, 3),
        "steps": result.steps,
        "report": str(result.dir.report),
    }
