"""``kudari report``: draw a run's report again."""

from __future__ import annotations

import argparse

from kudari.cli._runs import find_run
from kudari.cli._screen import Screen

HELP = "Draw the report of a run again, from the files in its folder."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or its name under runs/")


def run(args: argparse.Namespace) -> int:
    """Write ``report.html`` and say where it is."""
    from kudari.record import Facts
    from kudari.report import text_summary, write_report

    folder = find_run(args.run)
    write_report(folder)
    screen = Screen()
    print(text_summary(Facts.read(folder.facts), folder), file=screen.stream)
    return 0
