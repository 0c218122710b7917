"""The loss swings up and down with a period."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import main_curve, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 60
WINDOW = 5
MIN_PEAKS = 4
PEAK_TO_TROUGH = 2.0
CORRELATION = 0.6
FALLING = 0.8
MAX_POINTS = 1000


def judge(run: RunFacts) -> Verdict:
    """Peaks, depth and autocorrelation of the smoothed loss."""
    curve = main_curve(run, MIN_STEPS)
    if curve is None or not all(map(math.isfinite, curve.values)):
        return Skipped("no run of 60 finite losses with one optimizer and one backward")
    values = list(curve.values[-MAX_POINTS:])
    smooth = [sum(values[i : i + WINDOW]) / WINDOW for i in range(len(values) - WINDOW + 1)]
    third = len(smooth) // 3
    tail = smooth[third:]
    peaks = [
        i for i in range(2, len(tail) - 2) if tail[i] == max(tail[i - 2 : i + 3]) and tail[i] > tail[i - 2]
    ]
    troughs = [
        i for i in range(2, len(tail) - 2) if tail[i] == min(tail[i - 2 : i + 3]) and tail[i] < tail[i - 2]
    ]
    if len(peaks) < MIN_PEAKS or not troughs:
        return []
    high = sorted(tail[i] for i in peaks)[len(peaks) // 2]
    low = sorted(tail[i] for i in troughs)[len(troughs) // 2]
    lag, correlation = _period(tail)
    first, last = sum(smooth[:third]) / third, sum(smooth[-third:]) / third
    if low <= 0 or high / low <= PEAK_TO_TROUGH or correlation <= CORRELATION or last < FALLING * first:
        return []
    r = curve.optimizer
    return [
        Found(
            f"the loss swings between {low:.3g} and {high:.3g} every {lag} steps and does not fall",
            where(r.site, r.step_site),
            {"count": len(peaks), "first_step": curve.steps[0], "period": lag, "correlation": correlation},
            label="steps overshoot",
            subjects=subjects_of(run, r),
        )
    ]


def _period(values: Sequence[float]) -> tuple[int, float]:
    """Lag and height of the best autocorrelation beyond the first negative one, after removing the trend."""
    n = len(values)
    mean, centre = sum(values) / n, (n - 1) / 2
    spread = sum((i - centre) ** 2 for i in range(n))
    rise = sum((i - centre) * v for i, v in enumerate(values)) / spread
    d = [v - mean - rise * (i - centre) for i, v in enumerate(values)]
    energy = sum(v * v for v in d) or 1.0
    best, negative = (0, 0.0), False
    for lag in range(1, n // 2):
        c = sum(a * b for a, b in zip(d, d[lag:], strict=False)) / energy * n / (n - lag)
        negative = negative or c < 0
        if negative and c > best[1]:
            best = (lag, c)
    return best


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(1, 1, bias=False)
nn.init.constant_(net.weight, 3.0)
opt = torch.optim.SGD(net.parameters(), lr=0.02, momentum=1.0)
x = torch.ones(8, 1)
for step in range(200):
    loss = nn.functional.mse_loss(net(x), x) + 0.1
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="oscillation",
    severity="warning",
    manual=Manual(
        sees="The loss smoothed over 5 steps has 4 or more peaks, more than twice as high as its troughs, an "
        "autocorrelation above 0.6 at a period, and a level that does not fall.",
        hurts="Steps jump from one side of the valley to the other.",
        fix="lower the learning rate or the momentum",
        unless="the data come in a fixed cycle of easy and hard batches",
    ),
    judge=judge,
    runs=Runs(_LOOP, (("momentum=1.0", "momentum=0.5"),), _LOOP.replace("momentum=1.0", "momentum=0.8")),
)
