"""The first layers get gradients a thousand times smaller than the last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import main_curve, median, names_of, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_SAMPLES = 10
RATIO = 1e-3


def judge(run: RunFacts) -> Verdict:
    """RMS gradient of the first weight matrix over the last, in the order of the graph."""
    curve = main_curve(run, MIN_SAMPLES)
    ratios = run.health.depth_ratio.get(curve.optimizer.key, []) if curve else []
    if curve is None or len(ratios) < MIN_SAMPLES:
        return Skipped("no run of one optimizer over 4 or more weight matrices was sampled 10 times")
    half = ratios[: max(MIN_SAMPLES // 2, len(ratios) // 2)]
    ratio = median(half)
    if ratio >= RATIO:
        return []
    r = curve.optimizer
    first, last = ([*names_of(run, [i]), "?"][0] for i in run.health.depth_names[r.key])
    return [
        Found(
            f"the gradient of {first} is {1 / ratio if ratio else float('inf'):.0f} times smaller "
            f"than that of {last}",
            where(*(root.training_site for root in run.trained_roots()), r.site),
            {"count": len(half), "first_step": 0, "ratio": ratio, "first": first, "last": last},
            label="a deep chain of layers",
            subjects=subjects_of(run, r),
        )
    ]


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
act = nn.Sigmoid
layers = [nn.Linear(8, 16)]
for _ in range(6):
    layers += [act(), nn.Linear(16, 16)]
net = nn.Sequential(*layers, act(), nn.Linear(16, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(40):
    x = torch.randn(32, 8)
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="vanishing-gradients",
    severity="warning",
    manual=Manual(
        sees="With 4 or more weight matrices in depth order, the RMS gradient of the first over the "
        "last is below 1e-3, as "
        "the median over the first half of the samples.",
        hurts="The first layers stay near their initial values.",
        fix="ReLU or GELU, a normalisation layer, residual connections, or Kaiming initialisation",
        unless="branches start at zero on purpose, as in LoRA, or the run has converged",
    ),
    judge=judge,
    runs=Runs(
        _LOOP, (("act = nn.Sigmoid", "act = nn.ReLU"),), _LOOP.replace("act = nn.Sigmoid", "act = nn.Tanh")
    ),
)
