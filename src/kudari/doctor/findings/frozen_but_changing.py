"""A frozen part changes all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 5
MIN_STEPS = 3


def judge(run: RunFacts) -> Verdict:
    """Frozen batch norms that update their statistics; frozen parameters that a step moves."""
    if not run.trained_roots():
        return Skipped("no model was trained")
    found = []
    for root in run.trained_roots():
        hits = root.frozen_norm_updates
        if hits.count >= MIN_CALLS:
            found.append(
                Found(
                    f"frozen batch norm layers of {root.kind} still update their running statistics",
                    where(root.training_site),
                    hits.evidence(layers=len(root.frozen_norms)),
                    fix="for m in model.modules(): if frozen batch norm: m.eval(), after every model.train()",
                    label="in train mode",
                    severity="warning",
                    subjects=frozenset([root.key]),
                )
            )
    for r in run.optimizers.records:
        if r.frozen_changed.count >= MIN_STEPS:
            found.append(
                Found(
                    f"{r.kind} moves parameters that have requires_grad=False",
                    where(r.step_site, r.site),
                    r.frozen_changed.evidence(steps=r.steps),
                    fix="set p.grad = None when freezing, or leave frozen parameters out of the optimizer",
                    label="an old gradient is still there",
                    subjects=subjects_of(run, r),
                )
            )
    return found


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
for p in net[:2].parameters():
    p.requires_grad_(False)
opt = torch.optim.SGD(net[3].parameters(), lr=0.1)
net.train()
for step in range(20):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="frozen-but-changing",
    severity="error",
    manual=Manual(
        sees="Batch norm layers whose weight and bias are frozen update their running statistics in "
        "5 or more training "
        "calls (a warning); or a step changes a parameter with requires_grad=False 3 or more times.",
        hurts="requires_grad stops gradients only. Statistics move in train mode, and an optimizer "
        "still applies weight "
        "decay, momentum and old gradients.",
        fix="call .eval() on the frozen part after every model.train()",
        unless="statistics are adapted to new data on purpose",
    ),
    judge=judge,
    runs=Runs(
        _RUN,
        (("net.train()\n", "net.train()\nnet[1].eval()\n"),),
        _RUN.replace("nn.BatchNorm1d(8)", "nn.BatchNorm1d(8, affine=False)"),
    ),
)
