"""Samples of one batch influence each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import where
from kudari.doctor.static.losses import read_batch_mixing

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


RELATIVE_CHANGE = 1e-4


def judge(run: RunFacts) -> Verdict:
    """The probe: changing sample 0 changes the outputs of others, in eval mode."""
    probed = [r for r in run.trained_roots() if r.mixing is not None]
    if not probed:
        whys = [r.mixing_why for r in run.trained_roots()]
        return Skipped(whys[0] if whys else "no model was trained")
    return [
        Found(
            f"{r.kind} mixes the samples of a batch: changing sample 0 changes the outputs of the others",
            where(r.training_site, r.init_site),
            {"count": 1, "first_step": 0, "relative_change": r.mixing["moved"]},
            label=f"others change by {r.mixing['moved']:.2g} of the output's scale",
            subjects=frozenset([r.key]),
        )
        for r in probed
        if r.mixing is not None and r.mixing["moved"] > RELATIVE_CHANGE
    ]


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(4, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])

net = Net()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 6, 4)
    loss = nn.functional.mse_loss(net(x), x[:, -1, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="batch-mixing",
    severity="error",
    manual=Manual(
        sees="On a copy in eval mode, changing the first sample of a batch changes the outputs of "
        "other samples by more "
        "than 1e-4 of their scale, twice the same with one seed.",
        hurts="Predictions depend on what else is in the batch: a wrong dim, a missing permute or "
        "batch_first.",
        fix="nn.RNN(..., batch_first=True), permute() to the expected order, or the right dim= in softmax",
        unless="samples are meant to interact, as nodes of a graph or elements of a set",
    ),
    judge=judge,
    read=read_batch_mixing,
    runs=Runs(_RUN, (("nn.RNN(4, 8)", "nn.RNN(4, 8, batch_first=True)"),),
              _RUN.replace("self.rnn(x)[0][:, -1]", "self.rnn(x.transpose(0, 1))[0][-1]")),
)  # fmt: skip
