"""Layers live in a plain list, so parameters() does not find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import stepped, subjects_of, where
from kudari.doctor.static.modules import read_module_lists

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_BACKWARDS = 10


def judge(run: RunFacts) -> Verdict:
    """Modules in a container attribute whose parameters backwards reach and no optimizer holds."""
    roots = [r for r in run.trained_roots() if r.training_calls >= MIN_BACKWARDS]
    untrained = [r for r in run.roots.roots if r.hung and not r.training_calls]
    if not roots and not untrained:
        return Skipped("no model was trained for 10 steps")
    if not stepped(run, MIN_BACKWARDS):
        return Skipped("no optimizer took 10 steps")
    found = []
    for root in run.roots.roots:
        lost = [
            (path, e["name"])
            for e in run.unheld_to_the_end()
            if e["root"] is root and e["count"] >= MIN_BACKWARDS
            for path in root.hung
            if e["name"].startswith(path)
        ]
        if not lost:
            continue
        attribute = lost[0][0].split("[")[0]
        record = next((r for r in run.optimizers.records if r.key in root.trained_by), None)
        site = root.init_site
        paths = sorted({path for path, _ in lost})
        kind = "ModuleDict" if "['" in lost[0][0] else "ModuleList"
        found.append(
            Found(
                f"{root.kind}.{attribute} keeps {len(paths)} layers in a plain container: its "
                f"{len(lost)} parameters "
                f"get gradients but parameters() does not list them",
                where(site, record.site if record else None),
                {
                    "count": len(lost),
                    "first_step": 0,
                    "layers": paths[:5],
                    "parameters": [n for _, n in lost[:6]],
                },
                fix=f"self.{attribute.split('.')[-1]} = nn.{kind}(...)",
                label="the model's layers outside parameters()",
                subjects=(subjects_of(run, record) if record else frozenset()) | {root.key},
            )
        )
    return found


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.blocks = [nn.Linear(8, 8) for _ in range(2)]
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.out(x)

net = Net()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="modules-in-python-list",
    severity="error",
    manual=Manual(
        sees="A list, tuple or dict attribute of a module holds modules whose parameters were "
        "reached 10 or more "
        "times and are in no optimizer.",
        hurts="The layers are used but never trained, not saved by state_dict() and not moved by to(device).",
        fix="wrap them: nn.ModuleList([...]) or nn.ModuleDict({...})",
        unless="they are a frozen teacher; then set requires_grad_(False) on them",
    ),
    judge=judge,
    read=read_module_lists,
    runs=Runs(
        _RUN,
        (("[nn.Linear(8, 8) for _ in range(2)]", "nn.ModuleList([nn.Linear(8, 8) for _ in range(2)])"),),
        _RUN.replace(
            "opt = torch.optim.Adam(net.parameters(), lr=0.01)",
            "opt = torch.optim.Adam([*net.parameters(), *(p for b in net.blocks for p in "
            "b.parameters())], lr=0.01)",
        ),
    ),
)
