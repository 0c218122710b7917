"""Dropout does not listen to eval()."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.modules import read_dropout

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 2


def judge(run: RunFacts) -> Verdict:
    """Active dropout inside a model in eval mode with gradients off."""
    if not any(p for r in run.roots.roots for p in r.passes if not p.training):
        return Skipped("no model was called in eval mode without gradients")
    return [
        Found(
            f"dropout with p={hits.detail['p']:g} is active while the model is in eval mode",
            place(site),
            {"count": hits.count, "first_step": hits.first_step, "p": hits.detail["p"]},
            label="active in eval mode",
            subjects=frozenset([hits.detail["model"]]),
        )
        for site, hits in run.losses.dropout_in_eval.items()
        if hits.count >= MIN_CALLS
    ]


_RUN = """\
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.b(F.dropout(torch.tanh(self.a(x)), 0.1))

net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for epoch in range(3):
    net.train()
    for step in range(10):
        x = torch.randn(16, 4)
        loss = F.mse_loss(net(x), x[:, :1])
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        x = torch.randn(32, 4)
        F.mse_loss(net(x), x[:, :1]).item()
"""

ILLNESS = Illness(
    slug="dropout-always-on",
    severity="warning",
    manual=Manual(
        sees="Functional dropout with p > 0, or attention with dropout_p > 0, inside a model in eval "
        "mode with "
        "gradients off; 2 or more calls.",
        hurts="Predictions are random and worse than the model is.",
        fix="F.dropout(x, p, training=self.training); dropout_p=self.p if self.training else 0.0",
        unless="several predictions are averaged (Monte Carlo dropout), or a prenet is documented that way",
    ),
    judge=judge,
    read=read_dropout,
    runs=Runs(
        _RUN,
        ((", 0.1))", ", 0.1, training=self.training))"),),
        _RUN.replace("F.dropout(torch.tanh(self.a(x)), 0.1)", "torch.tanh(self.a(x))"),
    ),
)
