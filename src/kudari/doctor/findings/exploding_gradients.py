"""A gradient a hundred times the usual one, and a loss that jumps with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import main_curve, median, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 30
NORM_FACTOR = 100.0
LOSS_FACTOR = 5.0


def judge(run: RunFacts) -> Verdict:
    """Norms beyond 100 times their running median together with a jump of the loss."""
    curve = main_curve(run, MIN_STEPS)
    norms = run.health.norms.get(curve.optimizer.key) if curve else None
    if curve is None or norms is None or len(norms.values) < 12:
        return Skipped("no run of 30 steps with one optimizer and one backward")
    r = curve.optimizer
    clipping = any(c.count >= 0.5 * r.steps and not c.consumed.count for c in run.schedules.clips.values())
    if clipping:
        return []
    spikes = []
    for i in range(10, len(norms.values)):
        usual = median(norms.values[max(0, i - 20) : i])
        step = norms.steps[i]
        near = [v for s, v in zip(curve.steps, curve.values, strict=True) if step <= s <= step + 3]
        before = [v for s, v in zip(curve.steps, curve.values, strict=True) if step - 20 <= s < step]
        if not near or not before or usual <= 0:
            continue
        if norms.values[i] > NORM_FACTOR * usual and max(near) > LOSS_FACTOR * abs(median(before)) + 1:
            spikes.append((step, norms.values[i], usual, max(near)))
    if not spikes:
        return []
    step, norm, usual, loss = spikes[0]
    limit = sorted(norms.values)[int(0.9 * (len(norms.values) - 1))]
    return [
        Found(
            f"the gradient norm jumps to {norm:.3g} at step {step} ({norm / usual:.0f} times its "
            "median), and the loss to "
            f"{loss:.3g}",
            where(r.step_site, r.site),
            {"count": len(spikes), "first_step": step, "norm": norm, "median_norm": usual, "loss": loss},
            fix=f"torch.nn.utils.clip_grad_norm_(model.parameters(), {limit:.2g}) before the step",
            label="steps with the full gradient",
            subjects=subjects_of(run, r),
        )
    ]


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(60):
    x = torch.randn(32, 4)
    y = x[:, :1]
    if step == 50:
        x = x * 20
        y = y * 200
    loss = nn.functional.mse_loss(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="exploding-gradients",
    severity="warning",
    manual=Manual(
        sees="After 10 steps, a gradient norm above 100 times its running median of 20 while the "
        "loss jumps beyond 5 times "
        "its median plus 1.",
        hurts="One such step throws away what hundreds before it have learned.",
        fix="clip at the 90th percentile of the norms seen so far",
        unless="clipping works already, or large norms are usual for this loss",
    ),
    judge=judge,
    runs=Runs(
        _LOOP,
        (("    opt.step()\n", "    nn.utils.clip_grad_norm_(net.parameters(), 1.0)\n    opt.step()\n"),),
        _LOOP.replace("x = x * 20", "x = x * 1").replace("y = y * 200", "y = y * 2"),
    ),
)
