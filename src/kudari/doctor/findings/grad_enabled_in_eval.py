"""Evaluation builds graphs that nobody uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.modes import read_grad_enabled_in_eval

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 8


def judge(run: RunFacts) -> Verdict:
    """Calls in eval mode with gradients on that no backward and no autograd.grad reaches."""
    roots = [r for r in run.trained_roots() if r.calls > r.training_calls]
    if not roots:
        return Skipped("no trained model was called outside of training")
    found = []
    for root in roots:
        unused = root.eval_grad.count - root.eval_grad_reached
        if unused < MIN_CALLS or root.eval_grad_reached * 4 > root.eval_grad.count:
            continue
        found.append(
            Found(
                f"{root.kind} is evaluated with gradients on: {unused} graphs are built and thrown away",
                place(root.eval_grad_site),
                {"count": unused, "first_step": root.eval_grad.first_step},
                label="outside of no_grad",
                subjects=frozenset([root.key]),
            )
        )
    return found


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.05)

def evaluate():
    net.eval()
    total = 0.0
    for _ in range(6):
        x = torch.randn(16, 4)
        total += nn.functional.mse_loss(net(x), x[:, :1]).item()
    net.train()
    return total

for epoch in range(3):
    for step in range(10):
        x = torch.randn(16, 4)
        loss = nn.functional.mse_loss(net(x), x[:, :1])
        opt.zero_grad()
        loss.backward()
        opt.step()
    evaluate()
"""

ILLNESS = Illness(
    slug="grad-enabled-in-eval",
    severity="warning",
    manual=Manual(
        sees="8 or more calls of a trained model in eval mode with gradients on whose outputs "
        "require gradients and "
        "that no backward or autograd.grad uses.",
        hurts="Time and memory for graphs that are thrown away; with stored outputs they pile up.",
        fix="@torch.inference_mode() on the evaluation, or with torch.no_grad(): around it",
        unless="the gradients are read by other means",
    ),
    judge=judge,
    read=read_grad_enabled_in_eval,
    runs=Runs(
        _RUN,
        (("def evaluate", "@torch.no_grad()\ndef evaluate"),),
        _RUN.replace(
            "    for _ in range(6):\n", "    for _ in range(6):\n        torch.set_grad_enabled(False)\n"
        ).replace("    net.train()\n", "    net.train()\n    torch.set_grad_enabled(True)\n"),
    ),
)
