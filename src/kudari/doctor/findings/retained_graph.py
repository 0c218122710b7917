"""Graphs of old steps are kept alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import where
from kudari.doctor.static.modes import read_retained_graph

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 100


def judge(run: RunFacts) -> Verdict:
    """Outputs of many past steps whose graph is still alive."""
    if run.stream.tick < MIN_STEPS or not run.roots.open_calls:
        return Skipped("fewer than 100 steps with a model")
    hits = run.roots.retained
    if not hits.count:
        return []
    unfinished = run.roots.retained_unfinished
    alive, steps = hits.detail["alive"], hits.detail["steps"]
    site = max(run.backwards.sites.values(), key=lambda s: s.count).site if run.backwards.sites else None
    return [
        Found(
            f"the graphs of {steps} past steps are still in memory: a tensor with history is stored "
            "every step",
            where(site),
            hits.evidence(),
            label=f"{alive} graphs alive",
            severity="error" if unfinished * 2 > alive else "warning",
        )
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
curve = []
for i in range(160):
    x = torch.randn(16, 4)
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    opt.step()
    curve.append(loss)
"""

ILLNESS = Illness(
    slug="retained-graph",
    severity="warning",
    manual=Manual(
        sees="At a look every 50 steps, graphs of 60 or more different past steps are still alive. "
        "An error if most of "
        "them were never run backward, for then their activations are alive too.",
        hurts="Memory grows with every step; a loss that is added up drags the whole history along.",
        fix="store numbers: curve.append(loss.item()), or loss.detach()",
        unless="all of them are summed up and run backward once",
    ),
    judge=judge,
    read=read_retained_graph,
    runs=Runs(
        _LOOP,
        (("append(loss)", "append(loss.item())"),),
        _LOOP.replace("append(loss)", "append(loss.detach())"),
    ),
)
