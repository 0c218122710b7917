"""Probabilities are given to a cross-entropy that expects scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.losses import read_softmax_before_cross_entropy

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 3
MIN_SHARE = 0.8


def judge(run: RunFacts) -> Verdict:
    """The input of cross_entropy comes straight from a softmax."""
    sites = [s for s in run.losses.sites.values() if s.name == "cross_entropy" and s.looked >= MIN_CALLS]
    if not sites:
        return Skipped("no cross_entropy with gradients was called 3 times")
    found = []
    for s in sites:
        if s.softmax.count >= MIN_CALLS and s.softmax.count >= MIN_SHARE * s.looked:
            floor = s.softmax.detail["floor"]
            found.append(
                Found(
                    f"cross_entropy is given probabilities: softmax is applied twice, "
                    f"and the loss cannot fall below {floor:.4f}",
                    place(s.site),
                    s.softmax.evidence(calls=s.calls),
                    label=f"{s.softmax.count} of {s.looked} calls looked at",
                    subjects=frozenset([s.root.key]) if s.root else frozenset(),
                )
            )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(dim=1))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="softmax-before-cross-entropy",
    severity="error",
    manual=Manual(
        sees="The input of cross_entropy was computed by a softmax, its rows lie in [0, 1] and sum "
        "to 1; in 3 "
        "or more calls and 80 % of them.",
        hurts="cross_entropy applies log_softmax itself. With C classes the loss cannot fall below "
        "ln(e + C - 1) - 1, and gradients vanish where the model is sure.",
        fix="return the logits from forward(); apply softmax only where probabilities are reported",
        unless="the flattened gradient is wanted, as a kind of label smoothing",
    ),
    judge=judge,
    read=read_softmax_before_cross_entropy,
    runs=Runs(_LOOP, ((", torch.nn.Softmax(dim=1)", ""),), _LOOP.replace("Softmax", "LogSoftmax")),
)
