"""Gradients are wiped before any step uses them, so most backwards are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import stepped, subjects_of, where
from kudari.doctor.static.protocol import read_zero_grad_breaks_accumulation

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_LOST = 10
MIN_SHARE = 0.1


def judge(run: RunFacts) -> Verdict:
    """Backwards whose every reached parameter was wiped before a step consumed it."""
    records = [r for r in stepped(run) if r.backwards >= MIN_LOST and not r.closure]
    if not records:
        return Skipped("no optimizer took a step after 10 backwards")
    found = []
    for r in records:
        lost = r.lost
        if lost.count < MIN_LOST or lost.count < MIN_SHARE * r.backwards:
            continue
        site = run.backwards.sites.get(r.lost_site)
        if site is None or site.other_leaf:
            continue
        found.append(
            Found(
                f"{lost.count} of {r.backwards} backwards are lost: their gradients are wiped before "
                f"{r.kind} steps",
                where(r.lost_site, r.step_site),
                lost.evidence(backwards=r.backwards, steps=r.steps, lost_share=lost.count / r.backwards),
                label=f"{100 * lost.count // r.backwards} % of the backwards never reach a step",
                subjects=subjects_of(run, r),
            )
        )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for i in range(80):
    x = torch.randn(16, 4)
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(net(x), x[:, :1]) / 4
    loss.backward()
    if (i + 1) % 4 == 0:
        opt.step()
"""

ILLNESS = Illness(
    slug="zero-grad-breaks-accumulation",
    severity="error",
    manual=Manual(
        sees="A backward whose every reached parameter is wiped before any step consumes the "
        "gradient; 10 or more "
        "and 10 % of all backwards.",
        hurts="Work is thrown away: only the last micro-batch before a step counts, at a fraction of "
        "its weight.",
        fix="move the wipe behind the step: optimizer.step(); optimizer.zero_grad()",
        unless="the gradients were read in between, as in attacks or saliency maps; then use "
        "torch.autograd.grad",
    ),
    judge=judge,
    read=read_zero_grad_breaks_accumulation,
    runs=Runs(
        _LOOP,
        (
            ("    opt.zero_grad()\n", ""),
            ("        opt.step()\n", "        opt.step()\n        opt.zero_grad()\n"),
        ),
        _LOOP.replace("    opt.zero_grad()\n", "    if i % 4 == 0:\n        opt.zero_grad()\n"),
    ),
)
