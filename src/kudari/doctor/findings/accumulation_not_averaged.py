"""Mean losses of several micro-batches are added up without dividing by their number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place, stepped, subjects_of
from kudari.doctor.static.protocol import read_accumulation_not_averaged

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_WINDOWS = 3
MIN_SHARE = 0.8


def judge(run: RunFacts) -> Verdict:
    """Windows with several backwards from one line whose loss is a mean without a factor near 1/k."""
    records = [r for r in stepped(run, MIN_WINDOWS) if not r.closure and not r.in_backward]
    if not records:
        return Skipped("no optimizer took 3 steps outside a closure")
    found = []
    for r in records:
        total = sum(r.windows.values())
        wrong = {k: n for (k, averaged), n in r.windows.items() if k >= 2 and not averaged}
        count = sum(wrong.values())
        if count < MIN_WINDOWS or count < MIN_SHARE * total or r.stale_steps.count * 2 > total:
            continue
        k = max(wrong, key=lambda key: wrong[key])
        invariant = "Adam" in r.kind or r.kind == "Lion"
        clipped = any(c.count for c in run.schedules.clips.values())
        found.append(
            Found(
                f"{k} mean losses are added up for every step of {r.kind} and not divided by {k}: "
                f"the gradient is {k} times too large",
                place(r.window_site),
                {"count": count, "first_step": 0, "backwards_per_step": k, "steps": r.steps},
                fix=f"(loss / {k}).backward()",
                label=f"{k} times per step, without a factor near 1/{k}",
                severity="note" if invariant and not clipped else None,
                subjects=subjects_of(run, r),
            )
        )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.02)
for i in range(80):
    x = torch.randn(16, 4)
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
    loss.backward()
    if (i + 1) % 4 == 0:
        opt.step()
        opt.zero_grad()
"""

ILLNESS = Illness(
    slug="accumulation-not-averaged",
    severity="warning",
    manual=Manual(
        sees="80 % of 3 or more steps use k >= 2 backwards from one line, the loss is a mean, and no "
        "constant factor "
        "near 1/k is multiplied in. Only a note for Adam-type optimizers without clipping, which "
        "cancel the factor.",
        hurts="The gradient is k times as large as for one batch of the same samples; so is the "
        "effective rate.",
        fix="(loss / accumulation_steps).backward()",
        unless="the rate was chosen for the sum",
    ),
    judge=judge,
    read=read_accumulation_not_averaged,
    runs=Runs(_LOOP, (("    loss.backward()", "    (loss / 4).backward()"),),
              _LOOP.replace("net(x), x[:, :1])", "net(x), x[:, :1], reduction='sum') / 64")),
)  # fmt: skip
