"""Values are read back to the host several times a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.modes import read_host_sync

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 10
READS_PER_STEP = 5


def judge(run: RunFacts) -> Verdict:
    """``.item()`` and the like from user code, counted at sampled steps."""
    steps = run.backwards.sampled_steps
    if steps < MIN_STEPS:
        return Skipped("fewer than 10 sampled steps")
    rate = {site: hits for site, hits in run.losses.reads.items() if hits.count >= steps * 0.9}
    total = sum(hits.count for hits in rate.values())
    if total < READS_PER_STEP * steps:
        return []
    site, hits = max(rate.items(), key=lambda item: item[1].count)
    return [
        Found(
            f"{total / steps:.0f} values are read back to the host in every step",
            place(site),
            {"count": total, "first_step": hits.first_step, "sampled_steps": steps, "lines": len(rate)},
            label=f"{hits.count / steps:.0f} times a step",
        )
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
total = 0.0
for step in range(30):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
    for row in x[:, 0]:
        total += row.item()
"""

ILLNESS = Illness(
    slug="host-sync-every-step",
    severity="note",
    manual=Manual(
        sees="5 or more .item(), .cpu(), float(), .numpy() or .tolist() calls per step from user code.",
        hurts="On an accelerator each of them waits for all queued work.",
        fix="accumulate on the device and read once per epoch",
        unless="the run is on the CPU only",
    ),
    judge=judge,
    read=read_host_sync,
    runs=Runs(
        _LOOP,
        (("    for row in x[:, 0]:\n        total += row.item()\n", "    total = total + x[:, 0].sum()\n"),),
        _LOOP.replace("    for row in x[:, 0]:\n        total += row.item()\n", "    total += loss.item()\n"),
    ),
)
