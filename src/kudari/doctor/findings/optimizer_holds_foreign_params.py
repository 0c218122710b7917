"""An optimizer holds parameters that no longer belong to any model that is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import stepped, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_STEPS = 10


def judge(run: RunFacts) -> Verdict:
    """Held parameters that never had a gradient and that no called module owns."""
    records = [r for r in stepped(run, MIN_STEPS) if r.ids]
    if not records or not run.roots.roots:
        return Skipped("no optimizer took 10 steps beside a model")
    owned = {i for root in run.roots.roots for i in root.names}
    found = []
    for r in records:
        if len(r.reached) != len(r.ids) or r.in_backward or not r.alive:
            continue
        foreign = [
            i
            for i, (key, count) in enumerate(zip(r.ids, r.reached, strict=True))
            if not count and key not in owned and r.last[i] is None and r.params[i].requires_grad
        ]
        used = len(r.ids) - len(foreign)
        if not foreign:
            continue
        if not used and not any(
            not root.trained_by and root.grad_calls >= MIN_STEPS for root in run.roots.roots
        ):
            continue
        if not used and r.empty_steps < r.steps:
            continue
        shapes = [tuple(r.params[i].shape) for i in foreign[:3]]
        found.append(
            Found(
                f"{r.kind} holds {len(foreign)} parameters that belong to no model in use: "
                f"shapes {', '.join(map(str, shapes))}",
                where(r.site, r.step_site),
                {
                    "count": len(foreign),
                    "first_step": 0,
                    "steps": r.steps,
                    "shapes": [list(s) for s in shapes],
                },
                label=f"{len(foreign)} of {len(r.ids)} parameters never had a gradient",
                subjects=frozenset(),
            )
        )
    return found


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
net[2] = nn.Linear(8, 1)

for step in range(30):
    x = torch.randn(16, 4)
    loss = nn.functional.mse_loss(net(x), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="optimizer-holds-foreign-params",
    severity="error",
    manual=Manual(
        sees="After 10 steps some held parameters never had a gradient and belong to no module that "
        "was ever called.",
        hurts="The optimizer trains tensors that the model no longer uses; their replacements are "
        "trained by nobody.",
        fix="build the optimizer after the last change of the model's layers",
        unless="the parameters belong to a part that is used in a later stage",
    ),
    judge=judge,
    runs=Runs(
        _RUN,
        (
            ("opt = torch.optim.Adam(net.parameters(), lr=0.01)\n", ""),
            ("1)\n\nfor", "1)\nopt = torch.optim.Adam(net.parameters(), lr=0.01)\nfor"),
        ),
        _RUN.replace("net[2] = nn.Linear(8, 1)\n", "").replace("nn.Linear(8, 5)", "nn.Linear(8, 1)"),
    ),
)
