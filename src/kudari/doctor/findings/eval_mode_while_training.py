"""The model was left in eval mode by an evaluation, and training went on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import where
from kudari.doctor.static.modes import read_eval_mode_while_training

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 10
MIN_SHARE = 0.25


def judge(run: RunFacts) -> Verdict:
    """Training calls with every Dropout and BatchNorm in eval mode, after an eval pass."""
    roots = [r for r in run.trained_roots() if r.mode_layers and r.training_calls >= MIN_CALLS]
    if not roots:
        return Skipped("no model with Dropout or BatchNorm was trained for 10 calls")
    found = []
    for root in roots:
        off = root.training_off
        only_frozen_norms = root.frozen_everywhere and not root.has_drops
        if off.count < MIN_CALLS or off.count < MIN_SHARE * root.training_calls or only_frozen_norms:
            continue
        if not root.off_after_pass:
            continue
        site = next((r.step_site for r in run.optimizers.records if r.key in root.trained_by), None)
        found.append(
            Found(
                f"{root.kind} is trained in eval mode: dropout and batch statistics are off "
                f"since an evaluation switched them off",
                where(site),
                off.evidence(training_calls=root.training_calls, eval_passes=len(root.passes)),
                label=f"in eval mode in {off.count} of {root.training_calls} training calls",
                severity=None
                if root.training_on or any(mode for _, mode in root.mode_switches)
                else "warning",
                subjects=frozenset([root.key]),
            )
        )
    return found


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
opt = torch.optim.Adam(net.parameters(), lr=0.01)

def accuracy():
    net.eval()
    with torch.no_grad():
        x = torch.randn(32, 4)
        return (net(x).argmax(1) == x[:, :3].argmax(1)).float().mean().item()

net.train()
for epoch in range(4):
    for step in range(12):
        x = torch.randn(16, 4)
        loss = nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
        opt.zero_grad()
        loss.backward()
        opt.step()
    accuracy()
"""

ILLNESS = Illness(
    slug="eval-mode-while-training",
    severity="error",
    manual=Manual(
        sees="Training calls with every Dropout and BatchNorm of the model in eval mode, 10 or more "
        "and a quarter "
        "of all, after an evaluation that switched it.",
        hurts="Dropout no longer regularises and batch norm trains against statistics that stand still.",
        fix="model.train() after each evaluation, at the top of the epoch loop",
        unless="training in eval mode is meant; then call model.eval() once, before training",
    ),
    judge=judge,
    read=read_eval_mode_while_training,
    runs=Runs(
        _RUN,
        (("    for step in range(12):\n", "    net.train()\n    for step in range(12):\n"),),
        _RUN.replace("nn.Dropout(0.2), ", ""),
    ),
)
