"""A scheduler was built and then forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place, subjects_of
from kudari.doctor.static.operations import steps_under_condition
from kudari.doctor.static.protocol import read_scheduler_never_stepped

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 50


def judge(run: RunFacts) -> Verdict:
    """The optimizer took 50 steps since, the scheduler none."""
    records = [s for s in run.schedules.records if s.owner.steps - s.built_at >= MIN_STEPS]
    if not records:
        return Skipped("no scheduler was built on an optimizer that took 50 steps")
    if run.aborted:
        return Skipped("the run was aborted")
    found = []
    for s in records:
        others = [o for o in run.schedules.records if o is not s and o.owner is s.owner and o.steps]
        moved = s.rates.values and max(s.rates.values) - min(s.rates.values) > 1e-12
        if s.steps or s.member or others or moved:
            continue
        unit = "once per batch" if s.kind in ("OneCycleLR", "CyclicLR") else "once per epoch"
        waits = steps_under_condition(place(s.site))
        call = f"scheduler.step({'valid_loss' if s.plateau else ''})"
        found.append(
            Found(
                f"{s.kind} never steps: the rate stays at {s.first_rate:g} for "
                f"{s.owner.steps - s.built_at} steps",
                place(s.site),
                {"count": 1, "first_step": s.built_at, "optimizer_steps": s.owner.steps},
                fix=f"call {call} {unit}, after optimizer.step()",
                label="its step waits for a condition that never held" if waits else "never stepped",
                severity="note" if waits else None,
                subjects=subjects_of(run, s.owner),
            )
        )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
sched = torch.optim.lr_scheduler.StepLR(opt, 3, gamma=0.5)
for epoch in range(6):
    for i in range(10):
        x = torch.randn(16, 4)
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
        loss.backward()
        opt.step()
"""

ILLNESS = Illness(
    slug="scheduler-never-stepped",
    severity="error",
    manual=Manual(
        sees="A scheduler built on an optimizer that took 50 or more steps since, never stepped "
        "itself, while the "
        "rate did not move by other means.",
        hurts="The planned rate curve does not happen; training runs at the initial rate to the end.",
        fix="scheduler.step() after optimizer.step(), in the unit the scheduler was planned for",
        unless="the call waits for a condition (then this is a note), or the schedule is for a later stage",
    ),
    judge=judge,
    read=read_scheduler_never_stepped,
    runs=Runs(_LOOP, (("        opt.step()\n", "        opt.step()\n    sched.step()\n"),),
              _LOOP.replace("sched = torch.optim.lr_scheduler.StepLR(opt, 3, gamma=0.5)\n", "")),
)  # fmt: skip
