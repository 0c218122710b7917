"""``kudari schedule``: list the schedules, and draw one before training with it."""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from pathlib import Path

from kudari.errors import ArgumentError

HELP = "List the learning-rate schedules, or draw one."


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``kudari schedule``."""
    actions = parser.add_subparsers(dest="schedule_action", metavar="ACTION", required=True)
    actions.add_parser("list", help="every schedule, with its source", description="Every schedule by name.")
    show = actions.add_parser(
        "show",
        help="draw a schedule",
        description="Draw a schedule in the terminal, and as SVG.",
        epilog="""example: kudari schedule show "warmup('2%') >> cosine(floor=0.1)" --steps 10000""",
    )
    show.add_argument("text", metavar="SCHEDULE", help="a name, or calls joined by >> and *")
    show.add_argument("--steps", type=int, metavar="N", help="optimizer steps of the run (default 1000)")
    show.add_argument("--epochs", type=float, metavar="E", help="passes over the data")
    show.add_argument("--steps-per-epoch", type=int, metavar="N", help="for lengths in epochs")
    show.add_argument("--batch-size", type=int, metavar="N", help="for lengths in samples")
    show.add_argument("--tokens-per-step", type=int, metavar="N", help="for lengths in tokens")
    show.add_argument("--lr", type=float, default=1.0, metavar="PEAK", help="peak learning rate (default 1)")
    show.add_argument("--svg", type=Path, metavar="FILE", help="also write a picture")
    show.add_argument("--latex", action="store_true", help="print the formula as LaTeX")
    show.add_argument("--javascript", action="store_true", help="print the formula as JavaScript")


def run(args: argparse.Namespace) -> int:
    """Run ``kudari schedule``; returns the exit status."""
    return _list() if args.schedule_action == "list" else _show(args)


def _list() -> int:
    from kudari.schedules.parse import PRESETS, makers

    for name, text in PRESETS.items():
        print(f"{name:20} {text}")
    print()
    for name, maker in makers().items():
        curve = vars(maker).get("curve")
        doc = (maker.__doc__ or "").split("\n\n")
        source = curve.source if curve else _source(doc)
        print(f"{name:20} {' '.join(doc[0].split()).replace('``', '')}\n{'':20} {source}")
    return 0


def _source(paragraphs: list[str]) -> str:
    for paragraph in paragraphs:
        text = " ".join(paragraph.split())
        if text.startswith("Source: "):
            return text.removeprefix("Source: ").replace("``", "")
    return ""


def _show(args: argparse.Namespace) -> int:
    from kudari.compile.javascript import javascript
    from kudari.compile.latex import latex
    from kudari.schedules.draw import draw_svg, draw_text
    from kudari.schedules.parse import parse
    from kudari.schedules.schedule import Window

    schedule = parse(args.text)
    if not 0 < args.lr < math.inf:
        raise ArgumentError(f"--lr {args.lr:g} is not above 0.", fix="Give the peak, such as --lr 3e-4.")
    known = args.steps is not None or (args.epochs is not None and args.steps_per_epoch is not None)
    bound = schedule.bind(
        args.steps if known else 1000,
        epochs=args.epochs,
        steps_per_epoch=args.steps_per_epoch,
        batch_size=args.batch_size,
        tokens_per_step=args.tokens_per_step,
    )
    total = bound.total_steps or 0
    width = max(24, min(96, shutil.get_terminal_size((80, 24)).columns - 12))
    print(schedule)
    print(draw_text(bound, width=width, peak=args.lr, ascii_only=not _speaks_unicode()))
    print()
    for part, start, steps in schedule.segments(Window(total, bound.run)):
        last = start + (total - start if steps is None else steps)
        print(f"steps {start:>9,} to {last:>9,}   {bound(start) * args.lr:<12.6g} {part}")
    print(f"last step of the run      {bound(total - 1) * args.lr:.6g}")
    if args.latex:
        print(latex(bound.expression))
    if args.javascript:
        print(javascript(bound.expression))
    if args.svg is not None:
        args.svg.parent.mkdir(parents=True, exist_ok=True)
        args.svg.write_text(draw_svg(bound, peak=args.lr), encoding="utf-8")
        print(f"wrote {args.svg}")
    return 0


def _speaks_unicode() -> bool:
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
