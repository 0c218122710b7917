"""A softmax over a single class always gives 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.losses import read_softmax_over_one_class

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 3


def judge(run: RunFacts) -> Verdict:
    """softmax or log_softmax over a dimension of size 1, straight before the loss."""
    sites = [s for s in run.losses.sites.values() if s.looked >= MIN_CALLS]
    if not sites:
        return Skipped("no loss function was called 3 times with gradients")
    return [
        Found(
            "a softmax over a single class is always 1: the loss does not depend on the model",
            place(s.site),
            s.one_class.evidence(calls=s.calls),
            label=f"one class in {s.one_class.count} of {s.looked} calls looked at",
            subjects=frozenset([s.root.key]) if s.root else frozenset(),
        )
        for s in sites
        if s.one_class.count >= MIN_CALLS and s.one_class.count * 2 >= s.looked
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Softmax(dim=1))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.binary_cross_entropy(net(x), (x[:, :1] > 0).float())
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="softmax-over-one-class",
    severity="error",
    manual=Manual(
        sees="softmax or log_softmax over a dimension of size 1 whose output goes straight into the "
        "loss, 3 or more "
        "times; cross_entropy with one class included.",
        hurts="The result is 1 (its log 0) whatever the model says; every gradient is zero.",
        fix="one output: sigmoid, or binary_cross_entropy_with_logits; or two outputs with cross_entropy",
        unless="the dimension is an attention over keys that happen to be one",
    ),
    judge=judge,
    read=read_softmax_over_one_class,
    runs=Runs(
        _LOOP,
        (("torch.nn.Softmax(dim=1)", "torch.nn.Sigmoid()"),),
        _LOOP.replace("torch.nn.Softmax(dim=1)", "torch.nn.Identity()").replace(
            "entropy(", "entropy_with_logits("
        ),
    ),
)
