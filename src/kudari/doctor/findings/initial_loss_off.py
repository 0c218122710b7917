"""The first loss is far above what a clueless model has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


BINARY_LIMIT = 2.4


def judge(run: RunFacts) -> Verdict:
    """The first mean-reduced cross-entropy before any step against 2 ln C + 1."""
    wanted = ("cross_entropy", "binary_cross_entropy_with_logits")
    sites = [
        s for s in run.losses.sites.values() if s.name in wanted and s.first_loss and s.first_loss[0] == 0
    ]
    sites = [s for s in sites if not s.weighted and s.reduction == "mean" and not s.soft_targets]
    if not sites:
        return Skipped("no mean cross-entropy was computed before the first step")
    found = []
    for s in sites:
        if s.root is None or s.root.loaded or not s.root.training_calls:
            continue
        binary = s.name != "cross_entropy"
        if not binary and not s.class_layer:
            continue  # similarities of pairs with a temperature start where they start
        limit = BINARY_LIMIT if binary else 2 * math.log(max(2, s.classes)) + 1
        chance = math.log(2) if binary else math.log(max(2, s.classes))
        assert s.first_loss is not None
        first = s.first_loss[1]
        if not limit < first < math.inf or s.label_range.count:
            continue
        found.append(
            Found(
                f"the first loss is {first:.3g}, and a model that knows nothing has {chance:.3g}",
                place(s.site),
                {"count": 1, "first_step": 0, "first_loss": first, "chance": chance, "limit": limit},
                label=f"{first / chance:.1f} times the loss of chance",
                subjects=frozenset([s.root.key]),
            )
        )
    return found


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(4, 3)
nn.init.normal_(net.weight, std=12.0)
opt = torch.optim.Adam(net.parameters(), lr=0.5)
for step in range(60):
    x = torch.randn(64, 4)
    loss = nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="initial-loss-off",
    severity="warning",
    manual=Manual(
        sees="The first mean-reduced cross-entropy before any step is above 2 ln C + 1 (binary: above 2.4).",
        hurts="The first steps only repair the scale of the last layer; with a deep model they may break it.",
        fix="initialise the last layer smaller, or normalise what enters it",
        unless="weights were loaded, classes are weighted, or other terms are added",
    ),
    judge=judge,
    runs=Runs(
        _LOOP, (("nn.init.normal_(net.weight, std=12.0)\n", ""),), _LOOP.replace("std=12.0", "std=0.5")
    ),
)
