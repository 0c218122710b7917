"""The learning rate is too high."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import has_teacher, main_curve, median, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


FIRST_STEPS = 20
MEDIAN_RATIO, ONE_RATIO = 0.1, 0.5
# A step that moves the weights by more than their own size left nothing of what was initialised.
BLOWN_RATIO = 1.0
SINGULAR = ("log", "sqrt", "division", "power", "input")


def judge(run: RunFacts) -> Verdict:
    """Updates as large as the weights in the first steps, and a loss that pays for it."""
    curve = main_curve(run, FIRST_STEPS)
    if curve is None:
        return Skipped("no run of 20 steps with one optimizer and one backward")
    r = curve.optimizer
    series = run.health.ratios.get(r.key)
    early = (
        [(s, v) for s, v in zip(series.steps, series.values, strict=True) if s < FIRST_STEPS]
        if series
        else []
    )
    early = [(s, v) for s, v in early if not math.isnan(v)]
    if len(early) < (2 if run.health.bad_loss is not None else 5):
        return Skipped("the size of the first updates was not measured")
    ratios = [v for _, v in early]
    if median(ratios) <= MEDIAN_RATIO and max(ratios) <= ONE_RATIO:
        return []
    finite = [v for v in curve.values if math.isfinite(v)]
    first, tenth = curve.values[0], curve.values[-max(1, len(curve.values) // 10) :]
    # A loss that broke at log(0) and the like broke by its formula, unless it was rising before.
    cause = (run.health.bad_loss or {}).get("cause")
    diverged = len(finite) < len(curve.values) and cause not in SINGULAR
    tenth = finite[-max(1, len(finite) // 10) :] or tenth
    end = math.inf if diverged else sum(tenth) / len(tenth)
    peak = max(finite, default=math.inf)
    after_peak = finite[finite.index(peak) :] if finite else []
    stuck = peak > 3 * abs(first) + 3 and min(after_peak, default=peak) > 0.9 * peak
    if not (diverged or end >= first or stuck):
        return []
    if not diverged and has_teacher(run, curve):
        return []  # a loss against a teacher may start at its minimum
    if not diverged and abs(end - first) < 1e-3 * abs(first):
        return []  # a loss that cannot move, whatever the rate
    start = next(s for s, v in early if v > MEDIAN_RATIO)
    blown = next((s for s, v in early if v > BLOWN_RATIO), None)
    rate = r.hyper.get("lr")
    return [
        Found(
            f"the first steps of {r.kind} change the weights by {100 * median(ratios):.0f} % each, "
            "and the loss "
            + ("is not finite any more" if diverged else f"ends at {end:.3g} after a start at {first:.3g}"),
            where(r.site, r.step_site),
            {
                "count": sum(v > MEDIAN_RATIO for v in ratios),
                "first_step": start,
                "update_ratio": median(ratios),
                "largest_ratio": max(ratios),
                "blown_step": blown,
                "first_loss": first,
                "last_loss": end,
                "lr": rate,
            },
            fix=f"lr={rate / 10:g} or lower; then a short sweep" if isinstance(rate, float) else "",
            label=f"lr={rate:g}" if isinstance(rate, (int, float)) else "",
            subjects=subjects_of(run, r),
        )
    ]


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))
opt = torch.optim.Adam(net.parameters(), lr=2.0)
for step in range(80):
    x = torch.randn(32, 4)
    y = x[:, :3].argmax(1)
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="lr-too-high",
    severity="warning",
    manual=Manual(
        sees="In the first 20 steps the median update is above 10 % of the weights' norm, or one is "
        "above 50 %; and then "
        "the loss is not finite, or ends at or above its start, or peaks beyond three times it and stays.",
        hurts="Steps jump over the region in which the gradient says anything.",
        fix="divide the learning rate by 10, then make a short sweep around it",
        unless="the loss falls below its start later, as after a warm-up",
    ),
    judge=judge,
    runs=Runs(_LOOP, (("lr=2.0", "lr=0.003"),), _LOOP.replace("lr=2.0", "lr=0.02")),
)
