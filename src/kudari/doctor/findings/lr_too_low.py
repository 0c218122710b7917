"""The learning rate is too low."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import main_curve, median, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 50
TINY_RATIO = 1e-5
MOVED = 0.02
VANISHING = 1e-3


def judge(run: RunFacts) -> Verdict:
    """Updates below 1e-5 of the weights over the whole run while the loss stands still."""
    curve = main_curve(run, MIN_STEPS)
    if curve is None:
        return Skipped("no run of 50 steps with one optimizer and one backward")
    r = curve.optimizer
    ratios = run.health.ratios.get(r.key)
    norms = run.health.norms.get(r.key)
    if ratios is None or len(ratios.values) < 10 or norms is None:
        return Skipped("the size of updates was not measured")
    size = median(ratios.values)
    tenth = max(1, len(curve.values) // 10)
    start, end = median(curve.values[:tenth]), median(curve.values[-tenth:])
    if size >= TINY_RATIO or not median(norms.values) > 0 or abs(start - end) >= MOVED * abs(start):
        return []
    if any(root.loaded for root in run.trained_roots()) or size == 0:
        return []
    depth = run.health.depth_ratio.get(r.key)
    if depth and median(depth) < VANISHING:
        return []  # most layers hardly move because no gradient reaches them
    rate = r.hyper.get("lr")
    return [
        Found(
            f"{r.kind} moves the weights by {size:.1g} of their size per step: the loss went from "
            f"{start:.4g} to {end:.4g}",
            where(r.site, r.step_site),
            {"count": len(curve.values), "first_step": 0, "update_ratio": size, "first_loss": start,
             "last_loss": end, "gradient_norm": median(norms.values), "lr": rate},
            label=f"lr={rate:g}" if isinstance(rate, (int, float)) else "",
            subjects=subjects_of(run, r),
        )
    ]  # fmt: skip


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.SGD(net.parameters(), lr=1e-7)
x = torch.randn(64, 4)
for step in range(80):
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="lr-too-low",
    severity="warning",
    manual=Manual(
        sees="The median update over the run is below 1e-5 of the weights' norm while gradients are "
        "there and the loss "
        "moved by less than 2 %.",
        hurts="Training would take thousands of times as long.",
        fix="raise the learning rate by 10 to 1000",
        unless="the model is fine-tuned at its optimum, or the run is only a warm-up",
    ),
    judge=judge,
    runs=Runs(_LOOP, (("lr=1e-7", "lr=0.1"),), _LOOP.replace("lr=1e-7", "lr=0.01")),
)
