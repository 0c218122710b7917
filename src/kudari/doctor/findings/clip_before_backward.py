"""Gradients are clipped before backward has made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.protocol import read_clip_before_backward

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CLIPS = 3
MIN_SHARE = 0.8


def judge(run: RunFacts) -> Verdict:
    """Clips that see no gradient, or only zeros, while steps follow."""
    clips = [c for c in run.schedules.clips.values() if c.count >= MIN_CLIPS + 1]
    if not clips:
        return Skipped("gradients were not clipped 4 times")
    if not any(r.steps >= MIN_CLIPS for r in run.optimizers.records):
        return Skipped("no optimizer took 3 steps")
    return [
        Found(
            "gradients are clipped before backward has made them: the clip has no effect",
            place(c.site),
            c.empty.evidence(clips=c.count),
            label=f"{c.empty.count} of {c.count} clips see no gradient",
        )
        for c in clips
        if c.empty.count > MIN_CLIPS and c.empty.count >= MIN_SHARE * c.count
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for i in range(30):
    x = torch.randn(16, 4)
    opt.zero_grad()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="clip-before-backward",
    severity="error",
    manual=Manual(
        sees="4 or more clips, and 80 % of them, see gradients that are None or zero, while "
        "backwards and steps follow.",
        hurts="Nothing is clipped: the gradients of this step do not exist yet.",
        fix="order: loss.backward(), clip_grad_norm_(...), optimizer.step()",
        unless="only the norm is wanted; then pass max_norm=float('inf')",
    ),
    judge=judge,
    read=read_clip_before_backward,
    runs=Runs(
        _LOOP,
        (
            ("    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)\n", ""),
            (
                "    opt.step()\n",
                "    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)\n    opt.step()\n",
            ),
        ),
        _LOOP.replace(", 1.0)", ", float('inf'))"),
    ),
)
