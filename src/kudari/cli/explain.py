"""``kudari explain SLUG``: the manual page of a finding."""

from __future__ import annotations

import argparse
import textwrap

HELP = "Print the manual page of a finding of the doctor."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("slug", nargs="?", help="name of the finding; without it, list them all")


def run(args: argparse.Namespace) -> int:
    """Print one page, or the list; loads no torch."""
    from kudari.doctor.catalogue import illness, illnesses
    from kudari.doctor.printers.page import page

    if args.slug is None:
        for slug, known in illnesses().items():
            line = f"{slug:34s} {known.severity:8s} {known.manual.sees}"
            print(textwrap.shorten(line, 110, placeholder=" ..."))
        return 0
    print(page(illness(args.slug)))
    return 0
