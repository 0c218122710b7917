"""The module inside DistributedDataParallel is called directly, so gradients are not averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import where
from kudari.doctor.static.modes import read_ddp_bypassed

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 10


def judge(run: RunFacts) -> Verdict:
    """A DDP object that got no call while the module it wraps is trained."""
    roots = [r for r in run.roots.roots if r.ddp is not None]
    if not roots:
        return Skipped("no model was wrapped in DistributedDataParallel")
    return [
        Found(
            f"{r.kind} is trained without its DistributedDataParallel wrapper: gradients are not averaged "
            f"between processes",
            where(r.bare_site),
            r.bare_calls.evidence(wrapper_calls=r.ddp_calls),
            label="calls the inner module",
            subjects=frozenset([r.key]),
        )
        for r in roots
        if r.bare_calls.count >= MIN_CALLS and not r.ddp_calls and r.training_calls
    ]


_RUN = """\
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
torch.manual_seed(0)
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
net = torch.nn.Linear(4, 1)
ddp = DistributedDataParallel(net)
opt = torch.optim.SGD(ddp.parameters(), lr=0.1)
for step in range(20):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.mse_loss(ddp.module(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
with torch.no_grad():
    ddp.module(torch.randn(16, 4))
dist.destroy_process_group()
"""

ILLNESS = Illness(
    slug="ddp-bypassed",
    severity="error",
    manual=Manual(
        sees="The module wrapped in DistributedDataParallel got 10 or more training calls while the "
        "wrapper got none.",
        hurts="Only the wrapper's forward prepares the averaging of gradients; without it every "
        "process trains alone "
        "and the copies drift apart.",
        fix="call the wrapper: ddp_model(x); give the model a forward branch that returns the loss if needed",
        unless="the processes are meant to train alone",
    ),
    judge=judge,
    read=read_ddp_bypassed,
    runs=Runs(
        _RUN, (("ddp.module(x)", "ddp(x)"),), _RUN.replace("ddp.module(x)", "ddp(x)").replace("SGD", "Adam")
    ),
)
