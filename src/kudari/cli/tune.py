"""``kudari tune``: a learning rate, a batch size or any other setting, found by trying."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kudari.cli._extras import TRAIN, need
from kudari.cli._tuning import (
    WORDS,
    Opener,
    Printer,
    add_output,
    again_command,
    data_arguments,
    new_folder,
    options_of,
    read_request,
    write_request,
)
from kudari.errors import ArgumentError

if TYPE_CHECKING:
    from kudari.tune.results import Search
    from kudari.tune.trial import Trials

HELP = "Find a learning rate, a batch size or other settings by trying."
EPILOG = """\
examples:
  kudari tune lr                                    for the built-in digits
  kudari tune lr my.yaml optimizer=lion             for your configuration with another optimizer
  kudari tune batch data=photos                     the largest batch that fits, and the fastest
  kudari tune search lr=1e-4..1e-2 model.width=8,16,32 digits model=cnn epochs=5
"""
LR_EPILOG = """\
A range test finds where training learns most; short runs on the real schedule are averaged with it. It takes
half the steps of a training run at most, trains nothing that stays, and says so where it found nothing.
"""
SEARCH_EPILOG = """\
A range is written low..high (searched in ratios where it spans a factor of ten), alternatives are separated
by commas; everything else is a setting for all attempts. The study is an SQLite file in the output folder:
  kudari tune search --resume runs/digits-search-1 --trials 60
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="tune_action", metavar="ACTION", required=True)

    def action(name: str, text: str, epilog: str = "") -> argparse.ArgumentParser:
        return actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip

    lr = action("lr", "suggest a peak learning rate", LR_EPILOG)
    lr.add_argument("words", nargs="*", metavar=WORDS, help="as for kudari train")
    lr.add_argument(
        "--budget", type=float, default=0.5, metavar="SHARE",
        help="steps to spend, as a share of a training run (default 0.5)",
    )  # fmt: skip
    add_output(lr, resumable=False)
    batch = action("batch", "find the largest batch that fits and the fastest one")
    batch.add_argument("words", nargs="*", metavar=WORDS, help="as for kudari train")
    batch.add_argument("--memory", type=float, metavar="GIB", help="what a step may take on the CPU")
    batch.add_argument("--most", type=int, metavar="N", help="largest batch to try")
    batch.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    batch.add_argument("--quiet", action="store_true", help="print nothing but errors (and the JSON)")
    search = action("search", "search over any settings with Optuna", SEARCH_EPILOG)
    search.add_argument(
        "words",
        nargs="*",
        metavar="key=a..b | key=a,b | " + WORDS,
        help="what to search, then as for kudari train",
    )
    search.add_argument("--trials", type=int, default=20, metavar="N", help="attempts in all (default 20)")
    add_output(search, resumable=True)


def run(args: argparse.Namespace) -> int:
    """Run ``kudari tune``; returns the exit status."""
    need(TRAIN, f"kudari tune {args.tune_action}")
    return {"lr": _lr, "batch": _batch, "search": _search}[args.tune_action](args)


def _lr(args: argparse.Namespace) -> int:
    from kudari.report import write_suggestion
    from kudari.tune.learning_rate import lr

    printer, prepared = Printer(args), Opener(args.words).prepare()
    bundle, options = prepared.bundle, options_of(prepared)
    printer.say(bundle.title, style="bold")
    shaped = {k: getattr(options, k) for k in options.__dataclass_fields__ if k not in ("loss", "optimizer")}
    found = lr(prepared.model, options.loss, bundle, options.optimizer, budget=args.budget, **shaped)
    folder = new_folder(args, f"{bundle.name}-lr")
    (folder / "lr.svg").write_text(found.picture, encoding="utf-8")
    again = again_command("tune lr", args.words)
    page = write_suggestion(found, folder, bundle.title, again, bundle.said)
    name = prepared.config.optimizer.name
    if found.reliable:
        printer.say(f"Learning rate for {name}: {found.lr:.2g} ({found.low:.2g} to {found.high:.2g}), "
                    f"confidence {found.confidence}.")  # fmt: skip
    printer.say(found.why)
    printer.say(f"It cost {found.spent / found.steps:.0%} of a training run.")
    printer.say(f"Report: {page}")
    if found.reliable:
        others = [word for word in args.words if word.partition("=")[0] not in ("lr", "optimizer.lr")]
        printer.say("Next:   " + again_command("train", [*others, f"lr={found.lr:.2g}"]))
    else:
        printer.say(f"The default for {name} stays: {found.default:.2g}.")
    if args.json:
        print(json.dumps({
            "lr": found.lr, "low": found.low, "high": found.high, "confidence": found.confidence,
            "why": found.why, "default": found.default, "spent_steps": round(found.spent, 1),
            "steps": found.steps, "report": str(page),
        }))  # fmt: skip
    return 0


def _batch(args: argparse.Namespace) -> int:
    from kudari.tune.batch_size import batch

    if args.memory is not None and not args.memory > 0:
        raise ArgumentError(f"--memory {args.memory} is not above 0.", fix="Give GiB, such as --memory 4.")
    if args.most is not None and args.most < 1:
        raise ArgumentError(f"--most {args.most} is below 1.", fix="Give 1 or more.")
    printer, prepared = Printer(args), Opener(args.words).prepare()
    bundle, options = prepared.bundle, options_of(prepared)
    kept = ("precision", "device", "threads", "seed", "accumulate", "clip_norm", "augment")
    found = batch(
        prepared.model, options.loss, bundle, options.optimizer,
        memory_bytes=None if args.memory is None else int(args.memory * 2**30), most=args.most,
        **{k: getattr(options, k) for k in kept},
    )  # fmt: skip
    printer.say(bundle.title, style="bold")
    rows = [
        (f"{t.batch_size:,}", f"{1e3 * t.step_seconds:.3g} ms", f"{t.samples_per_second:,.0f}",
         f"{t.kept_bytes / 2**20:,.1f} MiB")
        for t in found.tried
    ]  # fmt: skip
    printer.table(("batch", "step", "samples/s", "memory"), rows, right=(0, 1, 2, 3))
    printer.say(f"Fastest: {found.fastest:,}, the smallest within 5 % of the most samples a second.")
    printer.say(f"Largest: {found.largest:,}; what ended it: {found.limit}.")
    printer.say("Larger batches take fewer steps an epoch: the learning rate then wants tuning again.")
    if args.json:
        print(json.dumps({
            "fastest": found.fastest, "largest": found.largest, "limit": found.limit,
            "tried": [vars(t) for t in found.tried],
        }))  # fmt: skip
    return 0


def _search(args: argparse.Namespace) -> int:
    from kudari.cli._config.load import load
    from kudari.report import write_search
    from kudari.tune.search import run_search
    from kudari.tune.space import ends, is_space, read_space
    from kudari.tune.studies import need_optuna

    need_optuna("kudari tune search")
    if args.trials < 1:
        raise ArgumentError(f"--trials {args.trials} is below 1.", fix="Give 1 or more.")
    printer = Printer(args)
    resumed = None if args.resume is None else _resumed(args)
    words = args.words if resumed is None else resumed[1]
    pairs = [read_space(word) for word in words if is_space(word)]
    space = dict(pairs)
    if not space:
        raise ArgumentError("There is nothing to search.", fix="Name settings such as lr=1e-4..1e-2.")
    if len(space) < len(pairs):
        raise ArgumentError("A setting is searched twice.", fix="Name each once, with all its values.")
    opener = Opener([word for word in words if not is_space(word)])

    @contextmanager
    def opened(values: Mapping[str, str]) -> Iterator[Trials]:
        with opener.open(*(f"{k}={v}" for k, v in values.items())) as trials:
            yield trials

    # Every mistake shows before a folder is made, and not after the attempts before the one it is in.
    first = {key: ends(choices)[0] for key, choices in space.items()}
    with opened(first):
        pass
    for key, choices in space.items():
        for value in ends(choices)[1:]:
            load([*opener.words, *(f"{k}={v}" for k, v in (first | {key: value}).items())])
    bundle = opener.prepare().bundle
    folder = resumed[0] if resumed is not None else new_folder(args, f"{bundle.name}-search")
    if resumed is None:
        write_request(folder, {"command": "tune search", "words": data_arguments(words)})
    printer.say(f"{bundle.title}: searching {', '.join(space)}", style="bold")
    printer.say(f"To go on after a stop: kudari tune search --resume {shlex.quote(str(folder))}")
    found = run_search(
        space, opened, folder, attempts=args.trials, title=bundle.title, said=bundle.said, say=printer.say
    )
    page = write_search(found, folder, again_command("tune search", ["--resume", str(folder)]))
    best = found.best()
    if best is None:
        printer.say("No attempt came to its end.")
    else:
        values = [f"{k}={v}" for k, v in best.values.items()]
        printer.say(f"Best of {len(found.attempts)}: {', '.join(values)}: {found.metric} {best.value:.4g}")
    for key, share in sorted(found.importance.items(), key=lambda item: -item[1]):
        printer.say(f"  {key}: {share:.0%} of the difference")
    printer.say(f"Report: {page}")
    if best is not None:
        plain = [word for word in words if not is_space(word)]
        printer.say(
            "Next:   " + again_command("train", [*plain, *(f"{k}={v}" for k, v in best.values.items())])
        )
    if args.json:
        print(json.dumps(_summary(found, page)))
    return 0 if best is not None else 1


def _resumed(args: argparse.Namespace) -> tuple[Path, list[str]]:
    if args.words or args.out is not None:
        raise ArgumentError("A search goes on as it was begun.", fix="Leave settings and --out away.")
    folder, request = read_request(args.resume, "tune search")
    return folder, [str(word) for word in request["words"]]


def _summary(found: Search, page: Path) -> dict[str, Any]:
    best = found.best()
    return {
        "metric": found.metric,
        "best": None if best is None else {"values": dict(best.values), "value": best.value},
        "attempts": len(found.attempts),
        "importance": dict(found.importance),
        "report": str(page),
    }
