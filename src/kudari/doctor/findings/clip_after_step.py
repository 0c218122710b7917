"""Gradients are clipped after the step has used them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.protocol import read_clip_after_step

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CLIPS = 3
MIN_SHARE = 0.8


def judge(run: RunFacts) -> Verdict:
    """Clips that see only gradients a step consumed and nobody refreshed."""
    clips = [c for c in run.schedules.clips.values() if c.count >= MIN_CLIPS]
    if not clips:
        return Skipped("gradients were not clipped 3 times")
    return [
        Found(
            "gradients are clipped after the step has used them: the clip has no effect",
            place(c.site),
            c.consumed.evidence(clips=c.count),
            label=f"{c.consumed.count} of {c.count} clips see used gradients",
        )
        for c in clips
        if c.consumed.count >= MIN_CLIPS and c.consumed.count >= MIN_SHARE * c.count
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for i in range(30):
    x = torch.randn(16, 4)
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    opt.step()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
"""

ILLNESS = Illness(
    slug="clip-after-step",
    severity="error",
    manual=Manual(
        sees="3 or more clips, and 80 % of them, see only gradients that a step consumed and no "
        "backward refreshed.",
        hurts="Nothing is clipped: the step already used the full gradient.",
        fix="order: loss.backward(), clip_grad_norm_(...), optimizer.step()",
        unless="only the norm is wanted; then pass max_norm=float('inf')",
    ),
    judge=judge,
    read=read_clip_after_step,
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
