"""Learning-rate finders of other libraries, written from their description, on the same trials.

fastai: losses of 100 steps from 1e-7 to 10, smoothed by a running mean (0.98), stopped at four times the
lowest; the first tenth and the last five are left out. ``valley``: of the longest decreasing subsequence, the
place half-way between its first and second third. ``minimum``: a tenth of the rate with the lowest loss;
``steep``: where the loss falls fastest over log rate.

Lightning: the same from 1e-8 to 1; the first ten and the last are left out; up to 2.5.2 the place of the
steepest fall per step, from 2.5.3 per unit of learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from kudari.tune.trial import Trials

STEPS, BETA, STOP = 100, 0.98, 4.0


def sweep(trials: Trials, first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Rates and smoothed losses of one range test."""
    state = {"mean": 0.0, "lowest": math.inf}
    smoothed: list[float] = []

    def stop(losses: list[float]) -> bool:
        state["mean"] = BETA * state["mean"] + (1 - BETA) * losses[-1]
        value = state["mean"] / (1 - BETA ** len(losses))
        smoothed.append(value)
        if len(losses) > 1 and value > STOP * state["lowest"]:
            return True
        state["lowest"] = min(state["lowest"], value)
        return False

    ratio = last / first
    trials.run(first, STEPS, factor=lambda step: ratio ** (step / (STEPS - 1)), stop=stop)
    rates = first * ratio ** (np.arange(len(smoothed)) / (STEPS - 1))
    return rates, np.array(smoothed)


def _fastai(trials: Trials, rule: Callable[[np.ndarray, np.ndarray], float]) -> float:
    rates, losses = sweep(trials, 1e-7, 10.0)
    rates, losses = rates[STEPS // 10 : -5], losses[STEPS // 10 : -5]
    return rule(rates, losses) if len(losses) > 1 else trials.lr


def _valley(rates: np.ndarray, losses: np.ndarray) -> float:
    count = len(losses)
    length, end = [1] * count, 0
    for i in range(1, count):
        for j in range(i):
            if losses[i] < losses[j] and length[i] < length[j] + 1:
                length[i] = length[j] + 1
            if length[end] < length[i]:
                end = i
    start = end - length[end]
    third = (end - start) / 3
    return float(rates[start + int(third) + int(third / 2)])


def fastai_valley(trials: Trials) -> float:
    """fastai's default."""
    return _fastai(trials, _valley)


def fastai_minimum(trials: Trials) -> float:
    """A tenth of the rate at the minimum."""
    return _fastai(trials, lambda rates, losses: float(rates[losses.argmin()]) / 10)


def fastai_steep(trials: Trials) -> float:
    """The steepest fall over log rate."""

    def steep(rates: np.ndarray, losses: np.ndarray) -> float:
        return float(rates[(np.diff(losses) / np.diff(np.log(rates))).argmin()])

    return _fastai(trials, steep)


def _lightning(trials: Trials, per_rate: bool) -> float:
    rates, losses = sweep(trials, 1e-8, 1.0)
    rates, losses = rates[10:-1], losses[10:-1]
    if len(losses) < 2:
        return trials.lr
    slope = np.gradient(losses, rates) if per_rate else np.gradient(losses)
    return float(rates[slope.argmin()])


def lightning_old(trials: Trials) -> float:
    """Up to 2.5.2."""
    return _lightning(trials, per_rate=False)


def lightning_new(trials: Trials) -> float:
    """From 2.5.3."""
    return _lightning(trials, per_rate=True)


RIVALS: dict[str, Callable[[Trials], float]] = {
    "fastai valley": fastai_valley,
    "fastai minimum": fastai_minimum,
    "fastai steep": fastai_steep,
    "Lightning <=2.5.2": lightning_old,
    "Lightning >=2.5.3": lightning_new,
}
