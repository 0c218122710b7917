"""The end of a run in plain text: what was learned, where the report is, what to do next."""

from __future__ import annotations

import shlex

from kudari.record import Facts, RunDir
from kudari.report.numbers import duration, label, metric, number, plural

HEADS = {"finished": "Finished", "interrupted": "Interrupted", "failed": "Failed"}


def run_path(facts: Facts, run_dir: RunDir | None) -> str:
    """The run's folder as a shell word; ``runs/NAME`` where only its name is known."""
    return shlex.quote(run_dir.path.as_posix() if run_dir is not None else f"runs/{facts.name}")


def resume_command(facts: Facts, run_dir: RunDir | None = None) -> str:
    """What goes on with an interrupted run: a shell command, or the argument to add in Python."""
    if facts.command.startswith("kudari "):
        return f"kudari train --resume {run_path(facts, run_dir)}"
    folder = run_dir.path.as_posix() if run_dir is not None else f"runs/{facts.name}"
    return f"kudari.fit(..., resume={folder!r})"


def has_checkpoint(run_dir: RunDir | None) -> bool:
    """Whether there is something to resume from; taken for granted where the folder is not known."""
    if run_dir is None:
        return True
    return run_dir.checkpoints.is_dir() and any(
        not p.name.startswith(".") for p in run_dir.checkpoints.iterdir()
    )


def text_summary(facts: Facts, run_dir: RunDir | None = None, following: str = "") -> str:
    """Summarise a run in a few lines for the terminal; no colour, no trailing newline.

    Args:
        facts: what is known about the run.
        run_dir: its folder; without it the report is said to be in ``runs/NAME``.
        following: the next command to try after a finished run, in place of ``kudari predict``.

    Example:
        >>> print(text_summary(facts))  # doctest: +SKIP
        Finished digits-1: 690 steps (30 epochs) in 2.1 s, 19,800 samples/s.
          Validation accuracy  98.61 %
          Validation loss      0.0512
        Report: runs/digits-1/report.html
        Next:   kudari predict runs/digits-1 FILE
    """
    length = f"{plural(facts.steps, 'step')} ({epochs(facts.epochs)}) in {duration(facts.seconds)}"
    speed = f", {number(facts.samples_per_second, 3)} samples/s" if facts.samples_per_second > 0 else ""
    lines = [f"{HEADS[facts.status]} {facts.name}: {length}{speed}."]
    names = {key: label(key) for key in facts.metrics}
    width = max(map(len, names.values()), default=0)
    lines += [f"  {names[key]:<{width}}  {metric(key, value)}" for key, value in facts.metrics.items()]
    alarms = [d for d in facts.diagnoses if d.severity != "note"]
    lines += [f"  {d.severity}: {d.fault}: {d.message}" for d in alarms[:3]]
    if len(alarms) > 3:
        lines.append(f"  and {plural(len(alarms) - 3, 'more finding')} in the report")
    lines.append(f"Report: {run_path(facts, run_dir)}/report.html")
    if facts.status != "finished":
        following = resume_command(facts, run_dir) if has_checkpoint(run_dir) else facts.command
        lines.append(f"Next:   {following}")
    elif following:
        lines.append(f"Next:   {following}")
    elif run_dir is None or run_dir.pipeline.exists():
        lines.append(f"Next:   kudari predict {run_path(facts, run_dir)} FILE")
    return "\n".join(lines)


def epochs(count: float) -> str:
    """A number of epochs with at most one decimal.

    Example:
        >>> epochs(30.0), epochs(1.0), epochs(2.53)
        ('30 epochs', '1 epoch', '2.5 epochs')
    """
    text = f"{count:,.1f}".removesuffix(".0")
    return f"{text} epoch{'' if text == '1' else 's'}"
