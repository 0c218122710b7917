"""Targets lie outside the range that the loss is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 3


def judge(run: RunFacts) -> Verdict:
    """BCE targets outside 0..1, class indices outside [0, C)."""
    wanted = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "binary_cross_entropy")
    sites = [s for s in run.losses.sites.values() if s.name in wanted and s.looked]
    if not sites:
        return Skipped("no loss over classes was called with gradients")
    found = []
    for s in sites:
        hits = s.label_range
        classes = hits.detail.get("classes")
        if classes is None and (hits.count < MIN_CALLS or hits.count * 2 < s.looked):
            continue
        if not hits.count:
            continue
        low, high = hits.detail["smallest"], hits.detail["largest"]
        if classes is not None:
            message = (
                f"{s.name} has {classes} classes and is given the class {high if high >= classes else low}"
            )
            fix = "count classes from 0, and give the last layer one output per class"
        else:
            message = (
                f"{s.name} is given targets from {low:g} to {high:g}, outside 0..1: it has no lower bound"
            )
            fix = "target / 255 for pixels, (target + 1) / 2 for -1 and 1"
        found.append(
            Found(
                message,
                place(s.site),
                hits.evidence(calls=s.calls),
                fix,
                label=f"targets from {low:g} to {high:g}",
                subjects=frozenset([s.root.key]) if s.root else frozenset(),
            )
        )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    y = x[:, :1].sign()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="label-out-of-range",
    severity="error",
    manual=Manual(
        sees="binary_cross_entropy_with_logits targets below 0 or above 1 in 3 or more calls, or a "
        "class index outside "
        "[0, C).",
        hurts="Outside 0..1 the loss can go to minus infinity; a class index out of range stops the "
        "run, on a GPU with "
        "an error that names neither.",
        fix="masks / 255, (y + 1) / 2, or labels counted from 0",
        unless="the formula is meant for such targets, as in hand-written focal forms",
    ),
    judge=judge,
    runs=Runs(
        _LOOP, ((".sign()", ".sign().add(1).div(2)"),), _LOOP.replace("x[:, :1].sign()", "x[:, :1].sigmoid()")
    ),
)
