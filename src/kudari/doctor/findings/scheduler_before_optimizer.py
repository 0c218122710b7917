"""The first scheduler step comes before the first optimizer step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place, subjects_of
from kudari.doctor.static.protocol import read_scheduler_before_optimizer

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


def judge(run: RunFacts) -> Verdict:
    """Order of the first calls after construction."""
    records = [
        s for s in run.schedules.records if s.steps and (s.owner.steps or s.owner.attempts) and not s.member
    ]
    if not records:
        return Skipped("no scheduler was stepped beside an optimizer")
    return [
        Found(
            f"{s.kind} steps before {s.owner.kind} does: the first rate, {s.first_rate:g}, is never used",
            place(s.step_site),
            {"count": 1, "first_step": s.built_at, "first_rate": s.first_rate},
            label="comes before optimizer.step()",
            subjects=subjects_of(run, s.owner),
        )
        for s in records
        if s.first_step_before_optimizer and not s.plateau and s.owner.steps > s.built_at and not s.epochs
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
sched = torch.optim.lr_scheduler.StepLR(opt, 20, gamma=0.5)
for i in range(30):
    x = torch.randn(16, 4)
    sched.step()
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="scheduler-before-optimizer",
    severity="error",
    manual=Manual(
        sees="The first scheduler.step() after construction comes before the first step of its optimizer.",
        hurts="The first rate of the plan is never used, and every later rate comes one step early.",
        fix="swap the two: optimizer.step(), then scheduler.step()",
        unless="the run resumes from a checkpoint; then build the scheduler with last_epoch",
    ),
    judge=judge,
    read=read_scheduler_before_optimizer,
    runs=Runs(
        _LOOP,
        (("    sched.step()\n", ""), ("    opt.step()\n", "    opt.step()\n    sched.step()\n")),
        _LOOP.replace("    sched.step()\n", "").replace(
            "loss.backward()\n", "loss.backward()\n    if i: sched.step()\n"
        ),
    ),
)
