"""``kudari doctor SCRIPT.py``: run a script under observation and name what is wrong with its training."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from kudari.errors import ArgumentError

HELP = "Run a training script under observation and name what is wrong with it."
LEVELS = ("error", "warning", "note")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the findings as JSON")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write the findings as one HTML page")
    parser.add_argument("--sarif", type=Path, metavar="OUT", help="write the findings as SARIF 2.1.0")
    parser.add_argument(
        "--every", type=int, default=25, metavar="N", help="steps between samples (default 25)"
    )
    parser.add_argument("--stop-on", choices=LEVELS, help="end the script at the first finding of this level")
    parser.add_argument("--fail-on", choices=LEVELS, help="exit with 1 when a finding reaches this level")
    parser.add_argument("--ignore", action="append", default=[], metavar="SLUG", help="leave out a finding")
    parser.add_argument(
        "--try-fix", action="store_true",
        help="run it as it is and with its certain fixes, in memory, and show before and after",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int, default=200, metavar="N", help="optimizer steps of each run of --try-fix"
    )
    parser.add_argument("script", type=Path, help="the script, run as __main__")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")


def run(args: argparse.Namespace) -> int:
    """Run the script; returns its exit status, or 1 where ``--fail-on`` says so."""
    from kudari.doctor.catalogue import illness
    from kudari.doctor.printers.html import write_html
    from kudari.doctor.printers.json import write_json
    from kudari.doctor.printers.sarif import write_sarif
    from kudari.doctor.printers.text import run_text
    from kudari.doctor.script import visit
    from kudari.doctor.static.check import check_file

    for slug in args.ignore:
        illness(slug)
    if args.try_fix:
        from kudari.doctor.trial import trial_text, try_fix

        print(trial_text(try_fix(args.script, args.arguments, args.steps)))
        return 0
    outputs = {name: out.resolve() for name in ("json", "html", "sarif") if (out := getattr(args, name))}
    _check_writable(outputs)
    static = check_file(args.script) if args.script.exists() else ()
    seen = visit(
        args.script, args.arguments, every=args.every, ignore=args.ignore, stop_on=args.stop_on, static=static
    )
    if os.environ.get("RANK", "0") != "0":
        return seen.status  # under torchrun every rank is watched and the first one reports
    print(run_text(seen.diagnoses, seen.cost), flush=True)
    sys.stdout.flush()
    if "json" in outputs:
        write_json(seen.diagnoses, outputs["json"])
    if "html" in outputs:
        write_html(seen.diagnoses, outputs["html"], f"kudari doctor {args.script.name}")
    if "sarif" in outputs:
        write_sarif(seen.diagnoses, outputs["sarif"])
    if args.fail_on and seen.diagnoses.reaches(args.fail_on):
        return seen.status or 1
    return seen.status


def _check_writable(outputs: Mapping[str, Path]) -> None:
    """Refuse before the run what could not be written after it."""
    for name, out in outputs.items():
        if out.is_dir() or not out.parent.is_dir():
            raise ArgumentError(
                f"--{name}: {out} is a folder."
                if out.is_dir()
                else f"--{name}: there is no folder {out.parent}.",
                why="What the run shows would be lost.",
                fix="Give a file in a folder that exists.",
            )
