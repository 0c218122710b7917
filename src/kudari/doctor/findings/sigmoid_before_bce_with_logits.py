"""Probabilities are given to a binary cross-entropy that expects logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.losses import read_sigmoid_before_bce

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 3
MIN_SHARE = 0.8
# -log(sigmoid(1)) and -log(1 - sigmoid(0)): what a perfect model is left with.
FLOOR_POSITIVE, FLOOR_NEGATIVE = 0.3133, 0.6931


def judge(run: RunFacts) -> Verdict:
    """The logits come straight from a sigmoid."""
    name = "binary_cross_entropy_with_logits"
    sites = [s for s in run.losses.sites.values() if s.name == name and s.looked >= MIN_CALLS]
    if not sites:
        return Skipped("binary_cross_entropy_with_logits was not called 3 times with gradients")
    return [
        Found(
            f"binary_cross_entropy_with_logits is given a sigmoid's output: the loss cannot fall below "
            f"{FLOOR_POSITIVE} for y = 1 and {FLOOR_NEGATIVE} for y = 0",
            place(s.site),
            s.sigmoid.evidence(calls=s.calls, floor_positive=FLOOR_POSITIVE, floor_negative=FLOOR_NEGATIVE),
            label=f"{s.sigmoid.count} of {s.looked} calls looked at",
            subjects=frozenset([s.root.key]) if s.root else frozenset(),
        )
        for s in sites
        if s.sigmoid.count >= MIN_CALLS and s.sigmoid.count >= MIN_SHARE * s.looked
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Sigmoid())
criterion = torch.nn.BCEWithLogitsLoss()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    loss = criterion(net(x), (x[:, :1] > 0).float())
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="sigmoid-before-bce-with-logits",
    severity="error",
    manual=Manual(
        sees="The logits argument of binary_cross_entropy_with_logits was computed by a sigmoid, in "
        "3 or more calls "
        "and 80 % of them.",
        hurts="The sigmoid is applied twice: the loss cannot fall below 0.3133 for positives and "
        "0.6931 for negatives, "
        "and gradients vanish where the model is sure.",
        fix="drop the sigmoid from forward(), or use binary_cross_entropy on its output",
        unless="the flattened gradient is wanted",
    ),
    judge=judge,
    read=read_sigmoid_before_bce,
    runs=Runs(_LOOP, ((", torch.nn.Sigmoid()", ""),), _LOOP.replace("BCEWithLogitsLoss", "BCELoss")),
)
