"""Backwards fill the gradients of an optimizer that never steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_BACKWARDS = 20


def judge(run: RunFacts) -> Verdict:
    """Reached by 20 backwards, never stepped, parameters unchanged."""
    records = [r for r in run.optimizers.records if r.backwards >= MIN_BACKWARDS]
    if not records:
        return Skipped("no optimizer's parameters were reached by 20 backwards")
    if run.aborted:
        return Skipped("the run was aborted")
    used = {i for r in run.optimizers.records if r.steps or r.attempts for i in r.ids}
    found = []
    for r in records:
        if r.steps or r.attempts or not used.isdisjoint(r.ids) or r.params_changed():
            continue
        schedulers = [s for s in run.schedules.records if s.owner is r and s.steps]
        instead = (
            f"; {schedulers[0].kind}.step() runs instead, and it only sets the rate" if schedulers else ""
        )
        site = next(iter(run.backwards.sites.values())).site
        found.append(
            Found(
                f"{r.kind} never steps, though {r.backwards} backwards reached its parameters{instead}",
                where(r.site, site),
                {"count": r.backwards, "first_step": 0, "scheduler_steps": sum(s.steps for s in schedulers)},
                label="never stepped",
                subjects=subjects_of(run, r),
            )
        )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
sched = torch.optim.lr_scheduler.StepLR(opt, 100)
for i in range(40):
    x = torch.randn(16, 4)
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    sched.step()
"""

ILLNESS = Illness(
    slug="optimizer-never-stepped",
    severity="error",
    manual=Manual(
        sees="The parameters of an optimizer were reached by 20 or more backwards, its step was "
        "never called, and "
        "the parameters did not change.",
        hurts="Nothing is trained. A scheduler's step only sets the learning rate.",
        fix="call optimizer.step() after loss.backward()",
        unless="the optimizer is only a container of parameters that you update yourself",
    ),
    judge=judge,
    runs=Runs(
        _LOOP,
        (("    sched.step()\n", "    opt.step()\n    sched.step()\n"),),
        _LOOP.replace("    sched.step()\n", "    with torch.no_grad():\n        for p in net.parameters():\n"
                      "            p -= 0.1 * p.grad\n"),
    ),
)  # fmt: skip
