"""``kudari check PATH``: read training code without running it and name what is wrong with it."""

from __future__ import annotations

import argparse
import ast
import os
from collections.abc import Sequence
from pathlib import Path

from kudari.errors import ArgumentError

MOST_PROCESSES = 8
HELP = "Read training code, without running it, and name what is wrong with it."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the findings as JSON")
    parser.add_argument("--sarif", type=Path, metavar="OUT", help="write the findings as SARIF 2.1.0")
    parser.add_argument("--ignore", action="append", default=[], metavar="SLUG", help="leave out a finding")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="leave out the findings listed in this file"
    )
    parser.add_argument("--write-baseline", type=Path, metavar="FILE", help="list today's findings in a file")
    parser.add_argument(
        "--fix", action="store_true", help="show the certain fixes as a diff; with --yes, write them"
    )
    parser.add_argument("--yes", action="store_true", help="write what --fix shows")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="Python files or folders")


def run(args: argparse.Namespace) -> int:
    """Read the files; returns 1 where an error or a warning stands. Loads no torch."""
    from kudari.doctor.catalogue import illness
    from kudari.doctor.printers.json import write_json
    from kudari.doctor.printers.sarif import write_sarif
    from kudari.doctor.printers.text import as_text
    from kudari.doctor.static.baseline import write_baseline
    from kudari.doctor.static.check import check_paths

    for slug in args.ignore:
        illness(slug)
    if args.yes and not args.fix:
        raise ArgumentError("--yes without --fix has nothing to write.", fix="Add --fix.")
    for path in args.paths:
        if path.is_file():
            _check_readable(path)
    if args.fix:
        _fix(args.paths, args.ignore, write=args.yes)
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    diagnoses = check_paths(args.paths, ignore=args.ignore, baseline=args.baseline, processes=processes)
    if args.write_baseline:
        write_baseline(diagnoses, args.write_baseline)
    if args.json:
        write_json(diagnoses, args.json)
    if args.sarif:
        write_sarif(diagnoses, args.sarif)
    print(as_text(diagnoses))
    return int(diagnoses.reaches("warning"))


def _check_readable(path: Path) -> None:
    """Refuse a file that was named and cannot be read; in a folder such files are passed over."""
    try:
        source = path.read_text(encoding="utf-8")
        if "torch" in source:
            ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise ArgumentError(
            f"{path} is not valid Python: {error}.", fix="Correct the file, or leave it out."
        ) from error


def _fix(paths: Sequence[Path], ignore: list[str], *, write: bool) -> None:
    """Print every certain fix as a diff, and write it where the user said so."""
    from kudari.doctor.static.check import fix_source, python_files
    from kudari.doctor.static.edits import diff

    changed = 0
    for file in (file for path in paths if path.exists() for file in python_files(path)):
        try:
            source = file.read_bytes().decode("utf-8")
        except (OSError, ValueError):
            continue
        new, slugs = fix_source(str(file), source, ignore)
        if slugs:
            changed += 1
            print(f"{file}: {', '.join(slugs)}")
            print(diff(source, new, file.as_posix()))
            if write:
                file.write_bytes(new.encode())
    if not changed:
        print("No finding here has a certain fix.")
    elif not write:
        print("Nothing was written; --fix --yes writes this.")
    print()
