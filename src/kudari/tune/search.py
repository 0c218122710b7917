"""A search over any setting of a run, by Optuna: which to try next, and which to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from kudari.errors import ArgumentError
from kudari.train.state import best_by
from kudari.tune.results import Attempt, Better, Search, Status
from kudari.tune.space import Choices, ends, suggest
from kudari.tune.studies import close_study, need_optuna, open_study
from kudari.tune.trial import Trials

Say = Callable[[str], None]
Opener = Callable[[Mapping[str, str]], AbstractContextManager[Trials]]

CHECKPOINTS = 10
FIRST_ATTEMPTS = 5
"""Attempts before any is stopped: a median of fewer says little."""


def run_search(
    space: Mapping[str, Choices],
    opener: Opener,
    folder: Path,
    *,
    attempts: int,
    seed: int = 0,
    title: str = "",
    said: tuple[str, ...] = (),
    say: Say = lambda text: None,
) -> Search:
    """Try configurations until there are ``attempts``; everything is kept in ``folder/study.db``.

    Values are proposed by a tree-structured Parzen estimator (Bergstra et al. 2011); an attempt whose best
    value so far is worse than the median of the others at the same checkpoint is stopped.

    Args:
        space: what to choose from, by key.
        opener: ``opener(values)`` opens the trials of one configuration.
        folder: of the study; the same folder goes on where it was cut.
        attempts: in all, those of earlier sessions included.
        seed: of the proposals.
        title, said: for the page.
        say: called with a sentence for every attempt.

    Raises:
        MissingExtraError: Optuna is not installed.
        ArgumentError: the folder holds a search over something else, or there is no validation set.
    """
    need_optuna("Searching settings")
    import optuna

    if attempts < 1:
        raise ArgumentError(f"attempts={attempts} is below 1.", fix="Pass 20.")
    with opener({k: ends(c)[0] for k, c in space.items()}) as trials:
        if trials.valid is None:
            raise ArgumentError(
                "There is no validation set.", fix="Pass valid=(X, y): it decides the search."
            )
        metric, sign = best_by(trials.metrics)
    better: Better = "higher" if sign > 0 else "lower"
    study = open_study(
        folder,
        "search",
        better,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_ATTEMPTS, n_warmup_steps=2),
    )
    try:
        _same_search(study, space, metric)
        while len(done := _attempts(study)) < attempts:
            study.sampler = optuna.samplers.TPESampler(seed=seed + len(done))  # resumed: as if never cut
            found = _attempt(study, space, opener, metric)
            say(_describe(found, metric))
        return Search(title, metric, better, tuple(_attempts(study)), _importance(study), said)
    finally:
        close_study(study)


def _same_search(study: Any, space: Mapping[str, Choices], metric: str) -> None:
    facts = {"space": {k: repr(c) for k, c in space.items()}, "metric": metric}
    known = study.user_attrs.get("search")
    if known is None:
        study.set_user_attr("search", facts)
    elif known != facts:
        raise ArgumentError(
            "The folder holds a search over something else.",
            why="Attempts over different ranges would be taken for one another.",
            fix="Choose another folder.",
        )


def _attempt(study: Any, space: Mapping[str, Choices], opener: Opener, metric: str) -> Attempt:
    from optuna.trial import TrialState

    trial = study.ask()
    values = {key: suggest(trial, key, choices) for key, choices in space.items()}
    started = time.perf_counter()
    last: list[float] = []
    status: list[Status] = ["diverged"]
    with opener(values) as trials:
        due = {round(trials.steps * (i + 1) / CHECKPOINTS): i for i in range(CHECKPOINTS)}

        def at(step: int) -> bool:
            if step not in due:
                return False
            value = trials.validate()[metric]
            if not math.isfinite(value):
                return True
            last.append(value)
            trial.report(value, due[step])
            if step == trials.steps:
                status[0] = "finished"
            elif trial.should_prune():
                status[0] = "stopped"
                return True
            return False

        trials.run(trials.lr, trials.steps, at=at)
    trial.set_user_attr(
        "attempt", {"values": values, "status": status[0], "seconds": time.perf_counter() - started}
    )
    if status[0] == "finished":
        study.tell(trial, last[-1])
    else:
        study.tell(trial, state=TrialState.PRUNED if status[0] == "stopped" else TrialState.FAIL)
    return _attempts(study)[-1]


def _attempts(study: Any) -> list[Attempt]:
    found = []
    for trial in study.get_trials(deepcopy=False):
        about = trial.user_attrs.get("attempt")
        if about is None or not trial.state.is_finished():
            continue
        value = trial.value if about["status"] == "finished" else None
        found.append(Attempt(trial.number, about["values"], value, about["status"], about["seconds"]))
    return found


def _importance(study: Any) -> dict[str, float]:
    """Shares by Optuna's PED-ANOVA (Watanabe et al. 2023); empty where the attempts do not tell."""
    import optuna

    try:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}
    total = sum(found.values())
    return {k: v / total for k, v in found.items()} if total > 0 and math.isfinite(total) else {}


def _describe(found: Attempt, metric: str) -> str:
    values = ", ".join(f"{k}={v}" for k, v in found.values.items())
    end = f"{metric} {found.value:.4g}" if found.value is not None else found.status
    return f"{found.number + 1}: {values}: {end}"
