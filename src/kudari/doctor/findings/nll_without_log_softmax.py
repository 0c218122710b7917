"""nll_loss is given something else than log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.losses import read_nll_without_log_softmax

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 3
MIN_SHARE = 0.8


def judge(run: RunFacts) -> Verdict:
    """Inputs above 0, or rows that do not sum to 1 after exp."""
    sites = [s for s in run.losses.sites.values() if s.name == "nll_loss" and s.looked >= MIN_CALLS]
    if not sites:
        return Skipped("nll_loss was not called 3 times with gradients")
    found = []
    for s in sites:
        hits = s.unnormalised
        if hits.count < MIN_CALLS or hits.count < MIN_SHARE * s.looked:
            continue
        below = s.scores_below_zero == hits.count
        found.append(
            Found(
                "nll_loss is given values that are no log-probabilities"
                + ("" if below else ": the loss has no lower bound"),
                place(s.site),
                hits.evidence(calls=s.calls),
                label=f"largest input {hits.detail['largest']:g}, logsumexp off by "
                f"{hits.detail['logsumexp_off']:g}",
                severity="warning" if below else None,
                subjects=frozenset([s.root.key]) if s.root else frozenset(),
            )
        )
    return found


_LOOP = """\
import torch
import torch.nn.functional as F
torch.manual_seed(0)
net = torch.nn.Linear(4, 3)
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    loss = F.nll_loss(net(x), x[:, :3].argmax(1))
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="nll-without-log-softmax",
    severity="error",
    manual=Manual(
        sees="The input of nll_loss has values above 1e-4, or rows whose logsumexp is off 0 by more "
        "than 0.01; in 3 or "
        "more calls and 80 % of them.",
        hurts="nll_loss only picks the score of the target class and negates it; without log_softmax "
        "the loss is not a "
        "likelihood and falls without bound.",
        fix="F.nll_loss(F.log_softmax(scores, dim=1), target), or F.cross_entropy(scores, target)",
        unless="a structured model gives unnormalised log-scores on purpose",
    ),
    judge=judge,
    read=read_nll_without_log_softmax,
    runs=Runs(
        _LOOP,
        (("net(x), x", "F.log_softmax(net(x), dim=1), x"),),
        _LOOP.replace("F.nll_loss(", "F.cross_entropy("),
    ),
)
