"""Weight decay also pulls at norm layers and biases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import few, names_of, stepped, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


def judge(run: RunFacts) -> Verdict:
    """A stepped group with decay that holds parameters of one dimension, in a model with norm layers."""
    records = [r for r in stepped(run) if r.decayed_vectors is not None]
    if not records or not any(root.norm_layers for root in run.trained_roots()):
        return Skipped("no optimizer was stepped on a model with norm layers")
    found = []
    for r in records:
        names = names_of(run, r.decayed_vectors or ())
        if names:
            found.append(
                Found(
                    f"weight decay {r.decay:g} also acts on {len(names)} biases and norm parameters: "
                    f"{few(names)}",
                    where(r.site, r.step_site),
                    {"count": len(names), "first_step": 0, "weight_decay": r.decay},
                    fix="kudari.optim.groups(model, weight_decay=...), or two parameter groups by "
                    "p.dim() >= 2",
                    label="one group for everything",
                    subjects=subjects_of(run, r),
                )
            )
    return found


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))
groups = net.parameters()
opt = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)
for step in range(20):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="weight-decay-on-norm-and-bias",
    severity="note",
    manual=Manual(
        sees="A stepped parameter group with weight decay above 0 holds parameters of one dimension, "
        "in a model with norm "
        "layers.",
        hurts="Pulling scales and biases to zero is no useful prior; most recipes leave them out.",
        fix="two groups: decay for p.dim() >= 2, none for the rest",
        unless="the recipe you follow decays everything",
    ),
    judge=judge,
    runs=Runs(
        _LOOP,
        (("groups = net.parameters()", "groups = [{'params': [p for p in net.parameters() if p.dim() > 1]}, "
          "{'params': [p for p in net.parameters() if p.dim() < 2], 'weight_decay': 0.0}]"),),
        _LOOP.replace("weight_decay=0.1", "weight_decay=0.0"),
    ),
)  # fmt: skip
