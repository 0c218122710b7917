"""Every parameter an optimizer holds is frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import stepped, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 5


def judge(run: RunFacts) -> Verdict:
    """Steps in which no held parameter required or had a gradient."""
    records = [r for r in stepped(run, MIN_STEPS) if r.ids]
    if not records:
        return Skipped("no optimizer took 5 steps")
    return [
        Found(
            f"{r.kind} trains nothing: all of its {len(r.ids)} parameters have requires_grad=False",
            where(r.site, r.step_site),
            {"count": r.inert_steps, "first_step": 0, "steps": r.steps, "parameters": len(r.ids)},
            label=f"{r.inert_steps} steps without one trainable parameter",
            subjects=subjects_of(run, r),
        )
        for r in records
        if r.inert_steps >= MIN_STEPS and r.inert_steps == r.steps and not any(r.reached)
    ]


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
for p in net.parameters():
    p.requires_grad = False
offset = torch.zeros(1, requires_grad=True)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(20):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(net(x) + offset, x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="nothing-trainable",
    severity="error",
    manual=Manual(
        sees="5 or more steps of an optimizer in which no held parameter ever required or had a gradient.",
        hurts="The step does nothing; the model stays as it was.",
        fix="unfreeze what should be trained: p.requires_grad_(True) for the head, before the "
        "optimizer is built",
        unless="a later stage unfreezes the parameters",
    ),
    judge=judge,
    runs=Runs(
        _RUN,
        (("for p in net.parameters():\n", "for p in net[0].parameters():\n"),),
        _RUN.replace("SGD(net.parameters()", "SGD([offset]"),
    ),
)
