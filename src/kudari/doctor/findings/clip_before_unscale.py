"""Scaled gradients are clipped as if they were not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.protocol import read_clip_before_unscale

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CLIPS = 3
MIN_SHARE = 0.5


def judge(run: RunFacts) -> Verdict:
    """Clips between ``scaler.scale(loss).backward()`` and ``scaler.unscale_``."""
    if not run.schedules.scalers:
        return Skipped("no enabled GradScaler was used")
    clips = [c for c in run.schedules.clips.values() if c.count >= MIN_CLIPS]
    if not clips:
        return Skipped("gradients were not clipped 3 times")
    return [
        Found(
            f"gradients are clipped to {c.scaled.detail['max_norm']:g} while they are still "
            "multiplied by the "
            f"loss scale {c.scaled.detail['scale']:g}",
            place(c.site),
            c.scaled.evidence(clips=c.count),
            label=f"in {c.scaled.count} of {c.count} clips",
        )
        for c in clips
        if c.scaled.count >= MIN_CLIPS and c.scaled.count >= MIN_SHARE * c.count
    ]


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for i in range(30):
    x = torch.randn(16, 4)
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    scaler.step(opt)
    scaler.update()
"""

ILLNESS = Illness(
    slug="clip-before-unscale",
    severity="error",
    manual=Manual(
        sees="With a GradScaler of scale above 1, gradients are clipped before scaler.unscale_; 3 or "
        "more times and "
        "half of the clips. Limits of 100 and more are taken as scaled on purpose.",
        hurts="Against scaled gradients the limit is smaller by the scale: nearly the whole gradient "
        "is clipped away.",
        fix="scaler.unscale_(optimizer), then clip_grad_norm_(...), then scaler.step(optimizer)",
        unless="the limit was multiplied by the scale",
    ),
    judge=judge,
    read=read_clip_before_unscale,
    runs=Runs(
        _LOOP,
        (("    torch.nn.utils", "    scaler.unscale_(opt)\n    torch.nn.utils"),),
        _LOOP.replace("init_scale=1024.0", "enabled=False"),
    ),
)  # fmt: skip
