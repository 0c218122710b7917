"""Part of a trained model was given to no optimizer."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import few, stepped, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.calls import Root
    from kudari.doctor.track.run import RunFacts


MIN_BACKWARDS = 10


def judge(run: RunFacts) -> Verdict:
    """Parameters that backwards reach and no optimizer, alive or dead, holds."""
    roots = [r for r in run.trained_roots() if r.training_calls >= MIN_BACKWARDS]
    if not roots or not stepped(run, MIN_BACKWARDS):
        return Skipped("no model was trained for 10 steps")
    outside = defaultdict(list)
    for entry in run.unheld_to_the_end():
        root = entry["root"]
        if root is None or root not in roots or entry["count"] < MIN_BACKWARDS:
            continue
        if any(entry["name"].startswith(path) for path in root.hung):
            continue  # modules-in-python-list names these
        outside[root.key].append(entry["name"])
    found = []
    for root in roots:
        names = outside.get(root.key)
        if not names:
            continue
        records = [r for r in run.optimizers.records if r.key in root.trained_by and r.steps]
        if not records:
            continue
        note = root.loaded and _is_one_child(root, names)
        record = records[-1]
        found.append(
            Found(
                f"{len(names)} parameters of {root.kind} get gradients but are in no optimizer: {few(names)}",
                where(record.site, record.step_site),
                {"count": len(names), "first_step": 0, "parameters": names[:10], "of": len(root.names)},
                fix="give them to the optimizer too, or say that they stay fixed: "
                f"{names[0]}.requires_grad_(False)",
                label=f"holds {len(root.names) - len(names)} of {len(root.names)} parameters",
                severity="note" if note else None,
                subjects=subjects_of(run, record) | {root.key},
            )
        )
    return found


def _is_one_child(root: Root, names: list[str]) -> bool:
    held = {name.split(".")[0] for name, _ in root.names.values()} - {name.split(".")[0] for name in names}
    return len(held) == 1


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.middle = nn.Linear(8, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        return self.head(torch.tanh(self.middle(torch.tanh(self.body(x)))))

net = Net()
opt = torch.optim.Adam([*net.body.parameters(), *net.head.parameters()], lr=0.01)
for step in range(40):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="params-not-in-optimizer",
    severity="error",
    manual=Manual(
        sees="Parameters of a trained model require gradients, were reached by 10 or more backwards, "
        "and are held "
        "by no optimizer at the end of the run, while others of the same model are.",
        hurts="They keep their initial values while everything around them is trained.",
        fix="torch.optim.Adam(model.parameters()), or requires_grad_(False) on what stays fixed",
        unless="the part is frozen on purpose; then say so with requires_grad_(False)",
    ),
    judge=judge,
    runs=Runs(
        _RUN,
        (("[*net.body.parameters(), *net.head.parameters()]", "net.parameters()"),),
        _RUN.replace("net = Net()\n", "net = Net()\nnet.middle.requires_grad_(False)\n"),
    ),
)
