"""A schedule is stepped in another unit than it was planned for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place, subjects_of

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts
    from kudari.doctor.track.schedules import SchedulerRecord


MIN_STEPS = 30
PER_BATCH_SHARE = 0.9
DEAD_RATE = 1e-3
DEAD_BEFORE = 0.3
DECAYS = (
    "StepLR",
    "MultiStepLR",
    "ExponentialLR",
    "LambdaLR",
    "PolynomialLR",
    "CosineAnnealingLR",
    "MultiplicativeLR",
)


def judge(run: RunFacts) -> Verdict:
    """The rate dies early, the cosine swings, or a warm-up never ends."""
    records = [
        s for s in run.schedules.records if s.steps and len(s.rates.values) >= MIN_STEPS and not s.plateau
    ]
    if not records:
        return Skipped("no scheduler was stepped beside 30 optimizer steps")
    found = []
    for s in records:
        seen = _dies_early(s) or _swings(s, run) or _never_ends(s)
        if seen:
            message, fix = seen
            rates = s.rates.values
            found.append(
                Found(
                    message,
                    place(s.step_site),
                    {
                        "count": s.steps, "first_step": s.built_at, "scheduler_steps": s.steps,
                        "optimizer_steps": len(rates), "first_rate": rates[0], "peak_rate": max(rates),
                        "last_rate": rates[-1], "planned_steps": s.horizon,
                    },
                    fix=fix,
                    label=f"stepped {s.steps} times in {len(rates)} optimizer steps",
                    subjects=subjects_of(run, s.owner),
                )
            )  # fmt: skip
    return found


def _dies_early(s: SchedulerRecord) -> tuple[str, str] | None:
    rates = s.rates.values
    if s.kind not in DECAYS or s.steps < PER_BATCH_SHARE * len(rates) or s.member:
        return None
    limit = DEAD_RATE * max(rates)
    alive = max(i for i, rate in enumerate(rates) if rate >= limit) + 1
    if alive >= DEAD_BEFORE * len(rates):
        return None
    return (
        f"{s.kind} is stepped after every batch: the rate is below a thousandth of its peak after "
        f"{alive} of {len(rates)} steps",
        "step it once per epoch, or plan its horizon in batches",
    )


def _swings(s: SchedulerRecord, run: RunFacts) -> tuple[str, str] | None:
    if s.kind != "CosineAnnealingLR" or not s.horizon or s.steps < PER_BATCH_SHARE * len(s.rates.values):
        return None
    epochs = max((r.epochs for r in run.data.loaders.values()), default=0) or run.data.rows.epochs()
    near = epochs and 0.5 <= s.horizon / epochs <= 2
    if s.steps < 4 * s.horizon or not near:
        return None
    swings = s.steps / s.horizon / 2
    return (
        f"CosineAnnealingLR with T_max={s.horizon} is stepped after every batch: the rate swings up and down "
        f"{math.floor(swings)} times",
        "step it once per epoch, or set T_max to epochs * len(loader)",
    )


def _never_ends(s: SchedulerRecord) -> tuple[str, str] | None:
    planned = s.horizon
    if s.kind not in ("OneCycleLR", "LinearLR") or not planned or s.member:
        return None
    if s.steps * 2 >= planned or s.steps * 4 > len(s.rates.values) or s.steps < 2:
        return None
    if s.kind == "LinearLR" and s.first_rate >= max(s.rates.values):
        return None  # a decay, no warm-up
    return (
        f"{s.kind} was planned for {planned} steps and got {s.steps}: it is stepped about once per epoch",
        "step it after every batch, or plan it for the number of epochs",
    )


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
sched = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.7)
for epoch in range(6):
    for i in range(20):
        x = torch.randn(16, 4)
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
        loss.backward()
        opt.step()
        sched.step()
"""

ILLNESS = Illness(
    slug="scheduler-wrong-period",
    severity="warning",
    manual=Manual(
        sees="A decay stepped with nearly every optimizer step whose rate is below a thousandth of "
        "its peak before "
        "30 % of the run and stays there; a cosine stepped per batch with T_max near the number of epochs; a "
        "one-cycle or a warm-up that ends below half of its plan.",
        hurts="The rate is not the planned one: training stops early, swings, or never leaves the warm-up.",
        fix="step the scheduler in the unit it was planned for",
        unless="the run is a deliberate short one, or the floor of the rate is meant to come early",
    ),
    judge=judge,
    runs=Runs(
        _LOOP, (("        sched.step()", "    sched.step()"),), _LOOP.replace("gamma=0.7", "gamma=0.99")
    ),
)
