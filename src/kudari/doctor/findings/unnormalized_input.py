"""Inputs enter the first layer far from zero mean and unit size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import median, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 4
LARGEST, FAR, TINY = 50.0, 30.0, 0.02


def judge(run: RunFacts) -> Verdict:
    """Size, mean and spread of what the first weighted layer receives in the first training calls."""
    roots = [r for r in run.trained_roots() if len(r.train_inputs) >= MIN_CALLS]
    if not roots:
        return Skipped("no first Linear, Conv or RNN was seen in 4 training calls")
    found = []
    for root in roots:
        if root.normalises_first or root.loaded:
            continue
        large = [
            m for m in root.train_inputs if m["largest"] > LARGEST or abs(m["mean"]) > FAR or m["std"] > FAR
        ]
        tiny = [m for m in root.train_inputs if 0 < m["std"] < TINY and m["largest"] < 1]
        wrong = large if len(large) >= MIN_CALLS else tiny if len(tiny) >= MIN_CALLS else []
        if not wrong:
            continue
        mean, std = median(m["mean"] for m in wrong), median(m["std"] for m in wrong)
        largest = median(m["largest"] for m in wrong)
        size = f"values up to {largest:.4g}" if wrong is large else f"values that spread by {std:.2g} only"
        found.append(
            Found(
                f"the first layer of {root.kind} receives {size} (mean {mean:.3g}, standard deviation "
                f"{std:.3g})",
                where(root.training_site, root.init_site),
                {"count": len(wrong), "first_step": 0, "mean": mean, "std": std, "largest": largest},
                fix=f"x = (x - {mean:.4g}) / {std:.4g}, or per feature, with statistics of the "
                "training data only",
                label="inputs are not normalised" if wrong is large else "inputs may be scaled twice",
                subjects=frozenset([root.key]),
            )
        )
    return found


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
opt = torch.optim.Adam(net.parameters(), lr=0.003)
for step in range(40):
    x = torch.rand(64, 8) * 255
    y = x[:, :3].argmax(1)
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="unnormalized-input",
    severity="warning",
    manual=Manual(
        sees="What the first Linear, Conv or RNN receives in 4 of the first 5 training calls has "
        "values above 50, a mean "
        "or standard deviation beyond 30, or a standard deviation below 0.02 (scaled twice).",
        hurts="The first layer's gradients grow with its inputs: one rate is too high for it and too "
        "low for the rest.",
        fix="subtract the mean and divide by the standard deviation of the training data",
        unless="the first layer is made for such values",
    ),
    judge=judge,
    runs=Runs(
        _LOOP,
        (("net(x), y", "net((x - 127.5) / 73.6), y"),),
        _LOOP.replace("nn.Sequential(", "nn.Sequential(nn.BatchNorm1d(8), "),
    ),
)
