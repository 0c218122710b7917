"""Gradients of earlier steps pile up because nothing wipes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import stepped, subjects_of, where
from kudari.doctor.static.protocol import read_missing_zero_grad

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 3
MIN_SHARE = 0.25


def judge(run: RunFacts) -> Verdict:
    """At a step, half of the gradients still hold what the step before consumed."""
    records = [r for r in stepped(run, MIN_STEPS) if not r.closure and not r.in_backward]
    if not records:
        return Skipped("no optimizer took 3 steps outside a closure")
    found = []
    for r in records:
        hits = r.stale_steps
        taken = max(r.steps, r.attempts)
        if hits.count >= MIN_STEPS and hits.count >= MIN_SHARE * taken:
            found.append(
                Found(
                    f"{r.kind} steps with gradients that an earlier step already used: nothing wipes them",
                    where(r.step_site, r.site),
                    hits.evidence(steps=taken),
                    label=f"stale gradients in {hits.count} of {taken} steps",
                    subjects=subjects_of(run, r),
                )
            )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="missing-zero-grad",
    severity="error",
    manual=Manual(
        sees="At the step of an optimizer, half or more of the gradients still contain what the step before "
        "consumed, never wiped in between; in 3 or more steps and a quarter of them.",
        hurts="Every step follows the sum of all gradients since the start. The effective rate grows with "
        "the number of steps and the direction lags behind.",
        fix="optimizer.zero_grad() before loss.backward(), once per step",
        unless="gradients are accumulated on purpose across steps; then keep the sum in your own tensors",
    ),
    judge=judge,
    read=read_missing_zero_grad,
    runs=Runs(
        _LOOP,
        (("    loss.backward()\n", "    opt.zero_grad()\n    loss.backward()\n"),),
        _LOOP.replace(
            "    opt.step()\n", "    opt.step()\n    for p in net.parameters():\n        p.grad = None\n"
        ),
    ),
)
