"""Padding counts as a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 5


def judge(run: RunFacts) -> Verdict:
    """One target value fills the tails of rows and is the padding of an Embedding."""
    sites = [
        s
        for s in run.losses.sites.values()
        if s.name in ("cross_entropy", "nll_loss") and s.looked >= MIN_CALLS
    ]
    if not sites or run.roots.last_ids is None:
        return Skipped("no loss over sequences of token ids was called 5 times")
    return [
        Found(
            f"{100 * s.padding.detail['share']:.0f} % of the targets are padding (value "
            f"{s.padding.detail['value']}) "
            f"and count in the loss",
            place(s.site),
            s.padding.evidence(calls=s.calls),
            fix=f"{s.name}(scores, target, ignore_index={s.padding.detail['value']})",
            label="without ignore_index",
            subjects=frozenset([s.root.key]) if s.root else frozenset(),
        )
        for s in sites
        if s.padding.count >= MIN_CALLS and s.padding.count * 2 >= s.looked and s.reduction != "none"
    ]


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Embedding(9, 8, padding_idx=0), nn.Linear(8, 9))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randint(1, 9, (16, 8))
    x[torch.arange(8) >= torch.randint(2, 8, (16, 1))] = 0
    loss = nn.functional.cross_entropy(net(x).transpose(1, 2), x)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="padding-in-loss",
    severity="warning",
    manual=Manual(
        sees="In 5 or more calls one target value fills 30 % or more, lies only in the tails of rows, is the "
        "padding_idx of an Embedding, and is not ignore_index.",
        hurts="The model learns to predict padding, and the loss looks smaller than it is.",
        fix="ignore_index=padding_idx",
        unless="the loss is masked afterwards, or the value is a real token",
    ),
    judge=judge,
    runs=Runs(_LOOP, (("2), x)", "2), x, ignore_index=0)"),), _LOOP.replace(
        "    x[torch.arange(8) >= torch.randint(2, 8, (16, 1))] = 0\n", "")),
)  # fmt: skip
