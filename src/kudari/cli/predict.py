"""``kudari predict``: a trained model on new files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kudari.cli._extras import TRAIN, need
from kudari.cli._runs import find_run
from kudari.cli._screen import Screen
from kudari.errors import ArgumentError

HELP = "Apply a trained model to new files and print class probabilities or values."
EPILOG = """\
examples:
  kudari predict runs/photos-1 new/a.jpg new/b.jpg      pictures, or folders of them
  kudari predict houses-1 new-houses.csv                tables with the same columns, target or not
  kudari predict arrays-1 new.npz --json                arrays with X

--json prints one JSON object a line: name, prediction, and for classes confidence and probabilities.
"""

SHOWN_CLASSES = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    parser.add_argument("run", metavar="RUN", help="folder of a run, or its name under runs/")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="pictures, folders, tables or arrays")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, one for each input"
    )
    parser.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="inputs at a time (default: 256)"
    )


def run(args: argparse.Namespace) -> int:
    """Print one line for every input."""
    need(TRAIN, "kudari predict")
    if args.batch_size < 1:
        raise ArgumentError(f"--batch-size {args.batch_size} is below 1.", fix="Give 1 or more.")
    missing = [path for path in args.inputs if not Path(path).expanduser().exists()]
    if missing:
        raise ArgumentError(f"There is no {', '.join(map(repr, missing))}.", fix="Check the path.")
    from kudari.cli._model import load_model

    trained = load_model(find_run(args.run))
    names, answers = trained.predict([Path(p).expanduser() for p in args.inputs], args.batch_size)
    if args.json:
        for name, answer in zip(names, answers, strict=True):
            print(json.dumps({"name": name, **answer}))
    else:
        show(Screen(), names, answers)
    return 0


def show(screen: Screen, names: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> None:
    """Print a table: the answer, and for classes the most probable ones."""
    if not answers:
        screen.say("There is nothing to predict in these files.")
    elif "probabilities" in answers[0]:
        rows = [
            [name, str(a["prediction"]), _percent(a["confidence"]), _others(a)]
            for name, a in _pairs(names, answers)
        ]
        screen.table(["input", "prediction", "probability", "next"], rows, right=[2])
    elif isinstance(answers[0]["prediction"], Mapping):
        targets = list(answers[0]["prediction"])
        rows = [[name, *(f"{a['prediction'][t]:.6g}" for t in targets)] for name, a in _pairs(names, answers)]
        screen.table(["input", *targets], rows, right=range(1, 1 + len(targets)))
    else:
        rows = [[name, f"{a['prediction']:.6g}"] for name, a in _pairs(names, answers)]
        screen.table(["input", "prediction"], rows, right=[1])


def _pairs(names: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    return list(zip(names, answers, strict=True))


def _others(answer: Mapping[str, Any]) -> str:
    """The classes that come next, as far as they have at least one percent."""
    ranked = list(answer["probabilities"].items())[1 : 1 + SHOWN_CLASSES]
    return ", ".join(f"{name} {_percent(p)}" for name, p in ranked if p >= 0.01)


def _percent(share: float) -> str:
    """``98.6 %``; never 100 for what is less."""
    return "100 %" if share == 1 else f"{min(100 * share, 99.9):.1f} %"
