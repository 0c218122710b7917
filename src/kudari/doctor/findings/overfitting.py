"""The validation loss rises while the training loss falls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import main_curve, median, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_PASSES = 6
EARLY = 0.6
RISE, FALL = 1.2, 0.5


def judge(run: RunFacts) -> Verdict:
    """An early minimum of the evaluation loss, a clear rise after it, a training loss that halves."""
    curve = main_curve(run, 20)
    points = [(tick, total / count) for tick, total, count in run.losses.evaluations if tick > 0]
    if curve is None or len(points) < MIN_PASSES:
        return Skipped("no run with 6 evaluations that compute a loss without gradients")
    values = [v for _, v in points]
    lowest = min(range(len(values)), key=values.__getitem__)
    end = median(values[-max(1, len(values) // 6) :])
    if lowest > EARLY * (len(values) - 1) or not values[lowest] > 0 or end <= RISE * values[lowest]:
        return []
    at = points[lowest][0]
    near = [
        v for s, v in zip(curve.steps, curve.values, strict=True) if abs(s - at) <= 0.05 * curve.steps[-1] + 3
    ]
    train_then, train_end = median(near), median(curve.values[-max(1, len(curve.values) // 10) :])
    if not train_end < FALL * train_then or _restored(run, at):
        return []
    r = curve.optimizer
    return [
        Found(
            f"the evaluation loss is lowest, {values[lowest]:.3g}, at step {at} and ends at "
            f"{end:.3g}, while the training "
            f"loss falls from {train_then:.3g} to {train_end:.3g}",
            where(*(p.site for root in run.trained_roots() for p in root.passes[:1]), r.step_site),
            {
                "count": len(values) - lowest,
                "first_step": at,
                "lowest": values[lowest],
                "end": end,
                "train_then": train_then,
                "train_end": train_end,
            },
            fix=f"stop near step {at} and keep that state; or more data, augmentation, weight decay, dropout",
            label="worse with every evaluation since",
            subjects=subjects_of(run, r),
        )
    ]


def _restored(run: RunFacts, step: int) -> bool:
    return any(load["trained"] for load in run.data.loaded) and step > 0


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 1))
opt = torch.optim.Adam(net.parameters(), lr=0.001)
x, y = torch.randn(40, 8), torch.randn(40, 1)
test, answer = torch.randn(200, 8), torch.randn(200, 1)
for epoch in range(25):
    for step in range(10):
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        nn.functional.mse_loss(net(test), answer).item()
"""

ILLNESS = Illness(
    slug="overfitting",
    severity="warning",
    manual=Manual(
        sees="Over 6 or more evaluations the loss is lowest in the first 60 %, ends above 1.2 times "
        "that, and the training "
        "loss ends below half of its value then.",
        hurts="From the minimum on, the model learns the training rows by heart.",
        fix="stop at the minimum and keep that state; regularise or get more data",
        unless="the best state is restored afterwards",
    ),
    judge=judge,
    runs=Runs(
        _LOOP,
        (("range(25)", "range(4)"),),
        _LOOP.replace(
            "torch.randn(40, 8), torch.randn(40, 1)", "torch.randn(400, 8), torch.zeros(400, 1)"
        ).replace("torch.randn(200, 1)", "torch.zeros(200, 1)"),
    ),
)
