"""argmax over a single column always says class 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 3


def judge(run: RunFacts) -> Verdict:
    """argmax or max over a last dimension of size 1."""
    if not run.roots.roots:
        return Skipped("no model was called")
    return [
        Found(
            "argmax over a single column: the predicted class is always 0",
            place(site),
            hits.evidence(),
            label=f"{hits.detail['rows']} rows of one column",
        )
        for site, hits in run.losses.one_column.items()
        if hits.count >= MIN_CALLS and site not in run.losses.wide_columns
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    y = (x[:, :1] > 0).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        hits = (net(x).argmax(1) == y.squeeze(1)).float().mean().item()
"""

ILLNESS = Illness(
    slug="argmax-over-one-column",
    severity="error",
    manual=Manual(
        sees="argmax or max over the last dimension of size 1 of floating-point scores, 3 or more times.",
        hurts="The index is always 0, so the reported accuracy is the share of class 0.",
        fix="threshold the logit: (logits > 0).long(); a probability at 0.5",
        unless="the width is 1 only for some inputs",
    ),
    judge=judge,
    runs=Runs(
        _LOOP,
        (("net(x).argmax(1)", "(net(x) > 0).squeeze(1)"),),
        _LOOP.replace("net(x).argmax(1)", "net(x).argmax(0)"),
    ),
)
