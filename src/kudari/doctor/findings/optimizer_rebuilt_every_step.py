"""An optimizer with state is built again and again over the same parameters."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place, subjects_of
from kudari.doctor.static.protocol import read_optimizer_rebuilt

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_BUILT = 5
SHORT_LIFE = 10


def judge(run: RunFacts) -> Verdict:
    """Five optimizers from one line over one parameter set, each stepped."""
    records = [r for r in run.optimizers.records if r.steps and r.stateful and r.site is not None]
    if not records:
        return Skipped("no optimizer with state took a step")
    groups = defaultdict(list)
    for r in records:
        groups[r.site, r.ids].append(r)
    found = []
    for (site, _), group in groups.items():
        if len(group) < MIN_BUILT:
            continue
        longest = max(r.steps for r in group)
        found.append(
            Found(
                f"{group[0].kind} is built {len(group)} times over the same parameters: its averages "
                "start from "
                f"zero each time",
                place(site),
                {"count": len(group), "first_step": group[0].built_tick, "longest_life_steps": longest},
                label=f"each lives {longest} steps or fewer",
                severity="error" if longest <= SHORT_LIFE else "warning",
                subjects=frozenset().union(*(subjects_of(run, r) for r in group[-3:])),
            )
        )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)

for i in range(30):
    opt = torch.optim.Adam(net.parameters(), lr=0.01)
    x = torch.randn(16, 4)
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="optimizer-rebuilt-every-step",
    severity="error",
    manual=Manual(
        sees="Five or more optimizers with state (the Adam family, momentum) built at one line over "
        "the identical "
        "parameters, each stepped. An error if each lived 10 steps or fewer, else a warning.",
        hurts="Momentum and second moments start from zero each time; Adam then moves every weight "
        "by the full rate.",
        fix="build the optimizer once, before the loop",
        unless="a restart of the averages is meant, as in some warm restarts",
    ),
    judge=judge,
    read=read_optimizer_rebuilt,
    runs=Runs(
        _LOOP,
        (("    opt = torch.optim.Adam(net.parameters(), lr=0.01)\n", ""),
         ("\n\nfor i", "\nopt = torch.optim.Adam(net.parameters(), lr=0.01)\nfor i")),
        _LOOP.replace("for i in range(30):\n", "for i in range(30):\n    net = torch.nn.Linear(4, 1)\n"),
    ),
)  # fmt: skip
