"""The loss rests where a constant prediction would leave it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import constant_loss, main_curve, main_loss, slope, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 60
LEVEL = 0.97
SLOPE = 0.03


def judge(run: RunFacts) -> Verdict:
    """Second half of the run at the level of the best constant prediction, without a slope."""
    curve = main_curve(run, MIN_STEPS)
    site = main_loss(run, curve) if curve else None
    constant = constant_loss(site) if site else None
    if curve is None or constant is None or constant <= 1e-6:
        return Skipped("no run of 60 steps whose loss of a constant prediction is known")
    half = [v for v in curve.values[len(curve.values) // 2 :] if math.isfinite(v)]
    if len(half) < MIN_STEPS // 2:
        return Skipped("too few finite losses")
    level = sum(half) / len(half)
    if level <= LEVEL * constant or abs(slope(half)) >= SLOPE * abs(level):
        return []
    r = curve.optimizer
    return [
        Found(
            f"the loss rests at {level:.3g}; predicting the same for every sample gives {constant:.3g}",
            where(curve.backward.site, r.step_site),
            {
                "count": len(half),
                "first_step": curve.steps[len(curve.values) // 2],
                "level": level,
                "constant": constant,
                "slope": slope(half),
            },
            label="no better than a constant",
            subjects=subjects_of(run, r),
        )
    ]


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(150):
    x = torch.randn(1024, 4)
    y = torch.randn(1024, 1)
    loss = nn.functional.mse_loss(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="plateau",
    severity="warning",
    manual=Manual(
        sees="In the second half of the run the loss is above 0.97 of the loss of the best constant "
        "prediction (label "
        "entropy, variance of the targets) and moves by less than 3 %.",
        hurts="The model has learned nothing from its inputs.",
        fix="overfit one batch first: if that fails, inputs, targets or the graph are wrong",
        unless="the inputs hold no information about the targets",
    ),
    judge=judge,
    runs=Runs(
        _LOOP,
        (("torch.randn(1024, 1)", "x[:, :1]"),),
        _LOOP.replace("torch.randn(1024, 1)", "x.mean(1, keepdim=True)"),
    ),
)
