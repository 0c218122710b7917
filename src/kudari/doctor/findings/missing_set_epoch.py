"""A distributed sampler shuffles every epoch in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.protocol import read_missing_set_epoch

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_EPOCHS = 3


def judge(run: RunFacts) -> Verdict:
    """A shuffling sampler iterated 3 times with one epoch number."""
    samplers = [s for s in run.data.samplers.values() if s.shuffle and len(s.epochs) >= MIN_EPOCHS]
    if not samplers:
        return Skipped("no shuffling DistributedSampler was iterated 3 times")
    if not any(r.steps for r in run.optimizers.records):
        return Skipped("no optimizer took a step")
    return [
        Found(
            f"DistributedSampler gives the same order in all {len(s.epochs)} epochs: set_epoch is "
            "never called",
            place(s.site),
            {"count": len(s.epochs), "first_step": 0, "epoch": s.epochs[0]},
            label=f"epoch stays {s.epochs[0]}",
        )
        for s in samplers
        if len(set(s.epochs)) == 1
    ]


_LOOP = """\
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
torch.manual_seed(0)
x = torch.randn(64, 4)
data = TensorDataset(x, x[:, :1])
sampler = DistributedSampler(data, num_replicas=2, rank=0, shuffle=True)
loader = DataLoader(data, batch_size=8, sampler=sampler)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for epoch in range(5):
    for a, b in loader:
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(net(a), b)
        loss.backward()
        opt.step()
"""

ILLNESS = Illness(
    slug="missing-set-epoch",
    severity="error",
    manual=Manual(
        sees="A shuffling DistributedSampler is iterated 3 or more times for training with one epoch value.",
        hurts="The order is drawn from seed + epoch: without set_epoch every epoch has the same batches.",
        fix="sampler.set_epoch(epoch) at the top of the epoch loop",
        unless="a fixed order is meant; then pass shuffle=False",
    ),
    judge=judge,
    read=read_missing_set_epoch,
    runs=Runs(
        _LOOP,
        (("    for a, b", "    sampler.set_epoch(epoch)\n    for a, b"),),
        _LOOP.replace("shuffle=True", "shuffle=False"),
    ),
)
