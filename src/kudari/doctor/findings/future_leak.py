"""A language model sees the token it should predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


RELATIVE_CHANGE = 1e-4


def judge(run: RunFacts) -> Verdict:
    """Targets are the inputs shifted by one, and the last token changes earlier outputs."""
    probed = [r for r in run.trained_roots() if r.leak is not None]
    if not probed:
        whys = [r.leak_why for r in run.trained_roots()]
        return Skipped(whys[0] if whys else "no model was trained")
    if not any(r.shifted_targets.count for r in probed):
        return Skipped("targets are not the inputs shifted by one")
    return [
        Found(
            f"{r.kind} is trained to predict the next token and sees it: later tokens change earlier outputs",
            where(r.training_site, r.init_site),
            {"count": r.shifted_targets.count, "first_step": 0, "relative_change": r.leak["moved"]},
            label=f"earlier outputs change by {r.leak['moved']:.2g} of their scale",
            subjects=frozenset([r.key]),
        )
        for r in probed
        if r.leak is not None and r.leak["moved"] > RELATIVE_CHANGE and r.shifted_targets.count
    ]


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(9, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 9)

    def forward(self, x):
        h = self.emb(x)
        mask = None
        return self.out(h + self.attend(h, h, h, attn_mask=mask, need_weights=False)[0])

net = Net()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    tokens = torch.randint(0, 9, (16, 9))
    x, y = tokens[:, :-1], tokens[:, 1:]
    loss = nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="future-leak",
    severity="error",
    manual=Manual(
        sees="Inputs are sequences of token ids, targets equal them shifted by one, and changing the "
        "last token changes "
        "outputs at earlier positions.",
        hurts="The loss falls to almost nothing because the answer is copied; generation then fails.",
        fix="a causal mask: is_causal=True, or attn_mask=torch.triu(torch.ones(T, T, dtype=torch.bool), 1)",
        unless="the model is an encoder whose masked tokens are the targets",
    ),
    judge=judge,
    runs=Runs(
        _RUN,
        (("mask = None", "mask = torch.triu(torch.ones(8, 8, dtype=torch.bool), 1)"),),
        _RUN.replace("x, y = tokens[:, :-1], tokens[:, 1:]", "x, y = tokens, tokens.flip(0)"),
    ),
)
