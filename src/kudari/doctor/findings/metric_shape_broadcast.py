"""A metric compares every prediction with every target because the shapes broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 3


def judge(run: RunFacts) -> Verdict:
    """``==`` between (N, 1) and (N,)."""
    if not run.roots.roots:
        return Skipped("no model was called")
    return [
        Found(
            f"== compares ({hits.detail['rows']}, 1) with ({hits.detail['rows']},): every prediction "
            "meets every target",
            place(site),
            hits.evidence(),
            label=f"gives {hits.detail['rows'] ** 2} answers for {hits.detail['rows']} rows",
        )
        for site, hits in run.losses.compared_pairs.items()
        if hits.count >= MIN_CALLS
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    y = (x[:, 0] > 0).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x).squeeze(1), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        hits = ((net(x) > 0).float() == y).float().mean().item()
"""

ILLNESS = Illness(
    slug="metric-shape-broadcast",
    severity="error",
    manual=Manual(
        sees="== of an (N, 1) tensor with an (N,) tensor, neither with gradients, 3 or more times.",
        hurts="The result is an (N, N) matrix: its mean is no accuracy, and its sum can exceed N.",
        fix="squeeze the prediction: (prediction.squeeze(1) == target)",
        unless="all pairs are meant; then write y.unsqueeze(0)",
    ),
    judge=judge,
    runs=Runs(
        _LOOP, (("(net(x) > 0)", "(net(x).squeeze(1) > 0)"),), _LOOP.replace("== y)", "== y.unsqueeze(0))")
    ),
)
