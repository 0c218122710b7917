"""``kudari.tune.compare``: optimizers on one task, with one budget, each at its own tuned learning rate."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from kudari import optim
from kudari.errors import ArgumentError
from kudari.train.state import best_by
from kudari.tune.learning_rate import find_lr
from kudari.tune.results import Better, Entry, Race, Tuned
from kudari.tune.studies import close_study, need_optuna, open_study
from kudari.tune.trial import Trials, open_trials, shaped

Say = Callable[[str], None]
Opener = Callable[[str, int], AbstractContextManager[Trials]]

CHECKPOINTS = 10
WORST = 75.0
"""From the second seed on, a run worse at a checkpoint than this percentile of those before it is stopped."""
FEWEST_TO_STOP = 4
"""Contenders below which nobody is stopped: of two, one is always the worse."""
FIRST_STOP = 0.3
"""Share of the run before which nobody is stopped: some begin slowly."""


def compare(
    optimizers: Sequence[str],
    model: Callable[[int], nn.Module],
    loss: Any,
    train: Any,
    valid: Any = None,
    *,
    seeds: int | Sequence[int] = 3,
    folder: str | Path,
    title: str = "",
    say: Say = lambda text: None,
    **options: Any,
) -> Race:
    """Race optimizers: the same data, steps and seeds, the learning rate of each found by the same search.

    Everything is kept in ``folder/study.db`` as it happens; the same call goes on where it was cut.

    Args:
        optimizers: two or more names of :func:`kudari.optim.names`.
        model: ``model(seed)`` makes an untrained model; the same seed, the same weights.
        loss: as for :func:`kudari.fit`.
        train, valid: as for :func:`kudari.fit`; there must be a validation set.
        seeds: how many, or which.
        folder: where the study is kept.
        title: of the page.
        say: called with a sentence for everything that ends.
        options: other keyword arguments of :func:`kudari.fit` that shape a run.

    Returns:
        A :class:`Race`; ``kudari.report.write_race`` draws it.

    Raises:
        MissingExtraError: Optuna is not installed.
        ArgumentError: fewer than two optimizers, an unknown one, or no validation set.

    Example:
        >>> race = kudari.tune.compare(["adamw", "lion"], make_model, "mse", train, valid,
        ...                            folder="runs/race", epochs=5)  # doctest: +SKIP
        >>> race.standings()[0].optimizer  # doctest: +SKIP
        'adamw'
    """
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if isinstance(model, nn.Module) or not callable(model):
        raise ArgumentError(
            f"model is a {type(model).__name__}, not a function of the seed.",
            why="Every run begins with an untrained model; the same seed, the same weights.",
            fix="Pass a function: lambda seed: make_model(seed).",
        )

    @contextmanager
    def opener(name: str, seed: int) -> Iterator[Trials]:
        run = shaped("tune.compare", options, loss=loss, optimizer=name, seed=seed, lr=None)
        with open_trials(model(seed), train, valid, run) as trials:
            yield trials

    return run_race(optimizers, opener, chosen, Path(folder), title=title, say=say)


def run_race(
    optimizers: Sequence[str],
    opener: Opener,
    seeds: Sequence[int],
    folder: Path,
    *,
    title: str = "",
    said: tuple[str, ...] = (),
    say: Say = lambda text: None,
) -> Race:
    """The race behind :func:`compare`: ``opener(name, seed)`` opens the trials of one run."""
    need_optuna("Comparing optimizers")
    names = check_names(optimizers)
    if not seeds:
        raise ArgumentError("There is no seed to run.", fix="Pass seeds=3.")
    with opener(names[0], seeds[0]) as trials:
        if trials.valid is None:
            raise ArgumentError("There is no validation set.", fix="Pass valid=(X, y): it decides the race.")
        metric, sign = best_by(trials.metrics)
        steps = trials.steps
    better: Better = "higher" if sign > 0 else "lower"
    study = _open(folder, names)
    try:
        _same_race(study, {"optimizers": names, "steps": steps, "metric": metric})
        tuned = [_tuned(study, name, opener, seeds[0], say) for name in names]
        for seed in seeds:
            for one in tuned:
                if (one.optimizer, seed) not in {(e.optimizer, e.seed) for e in _entries(study)}:
                    say(_describe(_run(study, one, opener, seed, (metric, -sign)), metric))
        wanted = set(seeds)
        entries = tuple(e for e in _entries(study) if e.seed in wanted)
        return Race(title, metric, better, steps, tuple(seeds), tuple(tuned), entries, said)
    finally:
        close_study(study)


def check_names(optimizers: Sequence[str]) -> list[str]:
    """Plain names, each once.

    Raises:
        ArgumentError: fewer than two, one twice, or an unknown one.
    """
    if isinstance(optimizers, str):
        optimizers = optimizers.split(",")
    names = [optim.get(name.strip()).__name__.lower() for name in optimizers]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ArgumentError(f"{twice} is given twice.", fix="Name each optimizer once.")
    if len(names) < 2:
        raise ArgumentError("A race needs two optimizers or more.", fix="Write them like adamw,lion,lamb.")
    return names


def _open(folder: Path, names: Sequence[str]) -> Any:
    import optuna

    pruner: Any = optuna.pruners.NopPruner()
    if len(names) >= FEWEST_TO_STOP:
        pruner = optuna.pruners.PercentilePruner(
            WORST, n_startup_trials=len(names), n_warmup_steps=round(FIRST_STOP * CHECKPOINTS)
        )
    return open_study(folder, "race", "lower", pruner=pruner)


def _same_race(study: Any, facts: dict[str, Any]) -> None:
    known = study.user_attrs.get("race")
    if known is None:
        study.set_user_attr("race", facts)
    elif known != facts:
        changed = ", ".join(f"{k} was {known.get(k)}, now {v}" for k, v in facts.items() if known.get(k) != v)
        raise ArgumentError(
            f"The folder holds another race: {changed}.",
            why="Runs of different length or task cannot be compared.",
            fix="Choose another folder.",
        )


def _tuned(study: Any, name: str, opener: Opener, seed: int, say: Say) -> Tuned:
    """The contender's learning rate, found once and kept with the study."""
    key = f"lr {name}"
    if key not in study.user_attrs:
        with opener(name, seed) as trials:
            found = find_lr(trials)
        one = Tuned(name, found.lr, found.confidence, found.why, found.spent)
        study.set_user_attr(key, json.dumps(dataclasses.asdict(one)))
        say(f"{name}: lr {one.lr:.2g}. {one.why}")
    return Tuned(**json.loads(study.user_attrs[key]))


def _run(study: Any, one: Tuned, opener: Opener, seed: int, judged: tuple[str, float]) -> Entry:
    """One run; the study is told everything.

    It is judged at checkpoints by what ranks the race: a metric, and the sign that makes less of it better.
    """
    from optuna.trial import TrialState

    trial = study.ask()
    trial.set_user_attr("who", [one.optimizer, seed])
    marks: list[tuple[int, float]] = []
    found: dict[str, Any] = {"status": "diverged", "values": {}, "bytes": 0}
    with opener(one.optimizer, seed) as trials:
        due = {round(trials.steps * (i + 1) / CHECKPOINTS): i for i in range(CHECKPOINTS)}

        def at(step: int) -> bool:
            if step not in due:
                return False
            values = trials.validate()
            marks.append((step, values["loss"]))
            shortfall = judged[1] * values[judged[0]]
            trial.report(shortfall if math.isfinite(shortfall) else 1e300, due[step])
            found["bytes"] = trials.state_bytes()
            if step == trials.steps:
                found.update(status="finished", values=values)
            elif trial.should_prune():
                found["status"] = "stopped"
                return True
            return False

        trace = trials.run(one.lr, trials.steps, at=at)
    if not all(math.isfinite(v) for v in found["values"].values()):
        found.update(status="diverged", values={})
    entry = Entry(
        one.optimizer, seed, one.lr, found["status"], len(trace.losses), found["values"], tuple(marks),
        trace.step_seconds, found["bytes"],
    )  # fmt: skip
    trial.set_user_attr("entry", json.dumps(dataclasses.asdict(entry)))
    if entry.status == "finished":
        study.tell(trial, judged[1] * entry.values[judged[0]])
    else:
        study.tell(trial, state=TrialState.PRUNED if entry.status == "stopped" else TrialState.FAIL)
    return entry


def _entries(study: Any) -> list[Entry]:
    """Every run that came to an end; one that was cut off is run again."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        if "entry" in trial.user_attrs and trial.state.is_finished():
            raw = json.loads(trial.user_attrs["entry"])
            found.append(Entry(**{**raw, "curve": tuple((int(s), float(v)) for s, v in raw["curve"])}))
    return found


def _describe(entry: Entry, metric: str) -> str:
    if entry.status == "finished":
        return f"{entry.optimizer}, seed {entry.seed}: {metric} {entry.values[metric]:.4g}"
    word = "stopped among the worst" if entry.status == "stopped" else "diverged"
    return f"{entry.optimizer}, seed {entry.seed}: {word} at step {entry.steps:,}"
