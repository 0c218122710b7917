"""The path from the loss to the parameters is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import few, names_of, place, stepped, subjects_of, where
from kudari.doctor.static.cuts import first_cut
from kudari.doctor.static.modes import read_graph_cut

if TYPE_CHECKING:
    from kudari.doctor.track.optimizers import OptimizerRecord
    from kudari.doctor.track.run import RunFacts


MIN_LEAF = 5
MIN_STEPS = 10


def judge(run: RunFacts) -> Verdict:
    """A loss without history, or held parameters that no backward ever reaches."""
    if not run.backwards.sites:
        return Skipped("no backward was seen")
    found = [
        Found(
            "the loss given to backward has no history: it was made anew, so no parameter gets a gradient",
            place(s.site),
            s.leaf.evidence(cut=first_cut(place(s.site))),
            label=f"a leaf in {s.leaf.count} of {s.count} backwards",
        )
        for s in run.backwards.sites.values()
        if s.leaf.count >= MIN_LEAF and s.leaf.count * 2 >= s.count
    ]
    if found:
        return found
    for r in stepped(run, MIN_STEPS):
        if r.in_backward or r.closure or len(r.reached) != len(r.ids) or not r.alive:
            continue
        cut = _unreached(run, r)
        if not cut:
            continue
        names = names_of(run, [r.ids[i] for i in cut]) or [str(tuple(r.params[i].shape)) for i in cut]
        site = max(run.backwards.sites.values(), key=lambda s: s.count).site
        spot = where(site, r.step_site)
        found.append(
            Found(
                f"{len(cut)} of {len(r.ids)} parameters of {r.kind} never get a gradient, though "
                "their layers run: "
                f"{few(names)}",
                spot,
                {
                    "count": max(r.steps, r.attempts),
                    "first_step": 0,
                    "parameters": names[:10],
                    "cut": first_cut(spot),
                },
                label="does not reach them",
                subjects=subjects_of(run, r),
            )
        )
    return found


def _unreached(run: RunFacts, r: OptimizerRecord) -> list[int]:
    wanted = [i for i, p in enumerate(r.params) if p.requires_grad and not r.reached[i] and p.grad is None]
    if wanted and len(wanted) == len(r.ids) and r.empty_steps == r.steps and run.backwards.total >= MIN_STEPS:
        called = {i for root in run.roots.roots if root.calls >= MIN_STEPS for i in root.names}
        return [i for i in wanted if r.ids[i] in called]
    ran = {
        key
        for root in run.roots.roots
        if root.grad_calls >= MIN_STEPS
        for key, owner in root.owner.items()
        if owner in root.executed
    }
    return [i for i in wanted if r.ids[i] in ran]


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
encoder = nn.Linear(4, 8)
head = nn.Linear(8, 1)
opt = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.05)
for step in range(30):
    x = torch.randn(16, 4)
    z = torch.tanh(encoder(x)).detach()
    loss = nn.functional.mse_loss(head(z), x[:, :1])
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="graph-cut",
    severity="error",
    manual=Manual(
        sees="The loss given to backward is a leaf, 5 or more times; or over 10 or more steps held "
        "parameters of layers "
        "that ran with gradients on never got a gradient.",
        hurts="What lies behind the cut is never trained: .detach(), .data, .item(), .numpy(), .tolist(), "
        "torch.tensor(...), no_grad and argmax all end the graph.",
        fix="keep the tensor on its way to the loss; detach only for reports",
        unless="the gradient is stopped on purpose; then leave the parameters out of the optimizer",
    ),
    judge=judge,
    read=read_graph_cut,
    runs=Runs(
        _RUN,
        ((".detach()", ""),),
        _RUN.replace("[*encoder.parameters(), *head.parameters()]", "head.parameters()").replace(
            "opt =", "encoder.requires_grad_(False)\nopt ="
        ),
    ),
)
