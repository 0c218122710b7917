"""``kudari compare``: a fair race of optimizers on one task."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kudari.cli._extras import TRAIN, need
from kudari.cli._rules import find_rule
from kudari.cli._tuning import (
    WORDS,
    Opener,
    Printer,
    add_output,
    again_command,
    data_arguments,
    new_folder,
    read_request,
    write_request,
)
from kudari.errors import ArgumentError

if TYPE_CHECKING:
    from kudari.tune.results import Race
    from kudari.tune.trial import Trials

HELP = "Race optimizers on one task: same budget, tuned learning rates, several seeds."
EPILOG = """\
examples:
  kudari compare adamw,lion                         on the built-in digits
  kudari compare adamw,lion,lamb,sgd my.yaml --seeds 5
  kudari compare --resume runs/digits-compare-1     go on where it was cut

Each optimizer takes the recipe's settings for it and a learning rate found by `kudari tune lr`; everything
else is the same. With four or more, runs among the worst quarter are stopped early from the second seed on.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    parser.add_argument(
        "words",
        nargs="*",
        metavar="A,B,... " + WORDS,
        help="optimizers, separated by commas; then as for kudari train",
    )
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each (default 3)")
    add_output(parser, resumable=True)


def run(args: argparse.Namespace) -> int:
    """Race; returns 0, 1 where nobody came to the end."""
    need(TRAIN, "kudari compare")
    from kudari.report import write_race
    from kudari.tune.race import run_race
    from kudari.tune.studies import need_optuna

    need_optuna("kudari compare")
    if args.resume is not None:
        folder, names, words, seeds = _resumed(args)
    else:
        names, words, seeds, folder = *_asked(args), args.seeds, None
    printer, opener = Printer(args), Opener(words)
    bundle = opener.prepare(f"optimizer={names[0]}").bundle  # every mistake shows before a folder is made
    if folder is None:
        folder = new_folder(args, f"{bundle.name}-compare")
        write_request(
            folder,
            {"command": "compare", "optimizers": names, "words": data_arguments(words), "seeds": seeds},
        )

    @contextmanager
    def opened(name: str, seed: int) -> Iterator[Trials]:
        with opener.open(f"optimizer={name}", f"seed={seed}") as trials:
            yield trials

    printer.say(f"{bundle.title}: {', '.join(names)}", style="bold")
    printer.say(f"To go on after a stop: kudari compare --resume {shlex.quote(str(folder))}")
    race = run_race(
        names, opened, range(seeds), folder, title=bundle.title, said=bundle.said, say=printer.say
    )
    page = write_race(
        race, folder, again_command("compare", [",".join(names), *words, "--seeds", str(seeds)])
    )
    _print(printer, race, page)
    if args.json:
        print(json.dumps(_summary(race, page)))
    return 0 if race.standings()[0].finished else 1


def _asked(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Optimizers and the rest of the words."""
    from kudari.tune.race import check_names

    if args.seeds < 1:
        raise ArgumentError(f"--seeds {args.seeds} is below 1.", fix="Give 1 or more.")
    if not args.words:
        raise ArgumentError(
            "Nothing to compare.", fix="Name two optimizers or more: kudari compare adamw,lion"
        )
    listed, *words = args.words
    names = [find_rule(name).name.lower() for name in listed.split(",") if name]
    if len(names) < 2:
        raise ArgumentError(
            f"{listed!r} is one optimizer.", fix="Name two or more: kudari compare adamw,lion"
        )
    check_names(names)
    taken = [
        w
        for w in words
        if w.partition("=")[0] in ("optimizer", "optimizer.name", "seed", "lr", "optimizer.lr")
    ]
    if taken:
        raise ArgumentError(
            f"{taken[0]} cannot be set here.",
            why="The race sets optimizer, seed and learning rate for each run.",
            fix="Leave it away; --seeds says how many.",
        )
    return names, words


def _resumed(args: argparse.Namespace) -> tuple[Path, list[str], list[str], int]:
    if args.words or args.out is not None:
        raise ArgumentError(
            "A race goes on as it was begun.", fix="Leave optimizers, settings and --out away."
        )
    folder, request = read_request(args.resume, "compare")
    return folder, list(request["optimizers"]), list(request["words"]), int(request["seeds"])


def _print(printer: Printer, race: Race, page: Path) -> None:
    from kudari.report.numbers import label
    from kudari.report.tuning import duration_of_step, spread

    rows = []
    for s in race.standings():
        ended = ", ".join(f"{n} {w}" for n, w in ((s.stopped, "stopped"), (s.diverged, "diverged")) if n)
        rows.append((
            s.optimizer,
            spread(s, race.metric) if s.finished else "",
            spread(s, "loss") if s.finished else "",
            f"{s.lr:.2g}",
            duration_of_step(s.step_seconds),
            f"{s.state_bytes / 2**20:.3g} MiB",
            ended,
        ))  # fmt: skip
    head = ("optimizer", label(race.metric).lower(), "loss", "lr", "step", "state", "")
    printer.table(head, rows, right=(1, 2, 3, 4, 5))
    printer.say(f"Report: {page}")


def _summary(race: Race, page: Path) -> dict[str, Any]:
    return {
        "metric": race.metric,
        "better": race.better,
        "standings": [
            {
                "optimizer": s.optimizer, "lr": s.lr, "mean": dict(s.mean),
                "spread": {k: v for k, v in s.spread.items() if v == v},
                "finished": s.finished, "stopped": s.stopped, "diverged": s.diverged,
                "step_ms": 1e3 * s.step_seconds, "state_bytes": s.state_bytes,
            }
            for s in race.standings()
        ],
        "report": str(page),
    }  # fmt: skip
