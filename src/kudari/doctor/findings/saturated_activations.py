"""Hidden tanh or sigmoid units sit at their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import main_curve, median, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_SAMPLES = 10
HALF = 0.5


def judge(run: RunFacts) -> Verdict:
    """Half of the values of a hidden layer saturated, in the median sample."""
    curve = main_curve(run, MIN_SAMPLES)
    layers = {key: v for key, v in run.health.saturated.items() if len(v) >= MIN_SAMPLES}
    if curve is None or not layers:
        return Skipped("no hidden tanh or sigmoid was sampled 10 times")
    found = {key: median(v) for key, v in layers.items() if median(v) >= HALF}
    if not found:
        return []
    (kind, width), share = max(found.items(), key=lambda item: item[1])
    r = curve.optimizer
    return [
        Found(
            f"{100 * share:.0f} % of the values of a hidden {kind} of width {width} are saturated",
            where(*(root.training_site for root in run.trained_roots()), r.site),
            {"count": len(layers[kind, width]), "first_step": 0, "share": share, "layers": len(found)},
            label=f"{kind} at its ends",
            subjects=subjects_of(run, r),
        )
    ]


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
nn.init.normal_(net[0].weight, std=8.0)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(40):
    x = torch.randn(32, 4)
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="saturated-activations",
    severity="warning",
    manual=Manual(
        sees="A hidden tanh beyond 0.99 (sigmoid outside 0.01..0.99) for half of its values, as the "
        "median of 10 or more "
        "samples.",
        hurts="The slope there is next to zero, so little gradient passes.",
        fix="scale the inputs, initialise the weights smaller (Xavier), or normalise before the activation",
        unless="the units are gates that should be open or closed",
    ),
    judge=judge,
    runs=Runs(
        _LOOP, (("std=8.0", "std=0.5"),), _LOOP.replace("nn.init.normal_(net[0].weight, std=8.0)\n", "")
    ),
)
