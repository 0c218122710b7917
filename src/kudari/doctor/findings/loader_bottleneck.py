"""The loop waits for its loader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


SHARE, SECONDS = 0.3, 0.5


def judge(run: RunFacts) -> Verdict:
    """Waiting over wall time, from the second epoch of every loader on."""
    loaders = [r for r in run.data.loaders.values() if r.epochs > 1 and r.wall > 0]
    if not loaders:
        return Skipped("no DataLoader was iterated for more than one epoch")
    return [
        Found(
            f"{100 * r.waited / r.wall:.0f} % of the loop's time is spent waiting for the loader",
            place(r.site),
            {"count": r.batches, "first_step": 0, "waited_seconds": r.waited, "loop_seconds": r.wall},
            label=f"{r.waited:.1f} of {r.wall:.1f} s",
        )
        for r in loaders
        if r.waited > SHARE * r.wall and r.waited > SECONDS
    ]


_RUN = """\
import time
import torch
from torch.utils.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        time.sleep(0.005)
        return torch.ones(4) * i / 64

torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
loader = DataLoader(Slow(), batch_size=8)
for epoch in range(3):
    for x in loader:
        loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
        opt.zero_grad()
        loss.backward()
        opt.step()
"""

ILLNESS = Illness(
    slug="loader-bottleneck",
    severity="note",
    manual=Manual(
        sees="From the second epoch on, more than 30 % of the loop's wall time, and more than half a "
        "second, is spent "
        "waiting for the loader.",
        hurts="The device idles while samples are read and decoded one by one.",
        fix="num_workers, prefetch_factor, pin_memory=True, or keep decoded data in memory",
        unless="the run is a short trial",
    ),
    judge=judge,
    runs=Runs(_RUN, (("        time.sleep(0.005)\n", ""),), _RUN.replace("0.005", "0.0")),
)
