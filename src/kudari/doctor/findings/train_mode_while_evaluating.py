"""The model is evaluated in train mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.modes import read_train_mode_while_evaluating

if TYPE_CHECKING:
    from kudari.doctor.track.calls import EvalPass
    from kudari.doctor.track.run import RunFacts


MIN_PASSES = 2
MIN_ROWS = 20
# As many passes as steps: part of the step (sampling, pseudo-labels) rather than an evaluation.
PASSES_PER_STEP = 0.8
EVALUATION_WORDS = ("eval", "valid", "test", "accura", "score", "metric", "check", "predict", "infer")


def judge(run: RunFacts) -> Verdict:
    """Passes without gradients in which dropout ran or statistics were updated."""
    roots = [r for r in run.trained_roots() if r.passes]
    if not roots:
        return Skipped("no trained model was evaluated without gradients")
    found = []
    for root in roots:
        wrong = [
            p
            for p in root.passes
            if p.training
            and (p.dropped or p.updated)
            and not p.reestimates
            and not p.feeds_training
            and p.rows >= MIN_ROWS
            and p.repeated * 2 < p.calls
        ]
        if len(wrong) < MIN_PASSES or len(wrong) * 2 < len(root.passes):
            continue
        if len(wrong) >= PASSES_PER_STEP * min(root.training_calls, 400) and not _after_the_step(run, wrong):
            continue
        norm = any(p.updated for p in wrong)
        what = "its statistics are updated with evaluation data" if norm else "dropout is active"
        found.append(
            Found(
                f"{root.kind} is evaluated in train mode: {what}",
                place(wrong[0].site),
                {
                    "count": len(wrong), "first_step": wrong[0].tick, "rows": sum(p.rows for p in wrong),
                    "calls": sum(p.calls for p in wrong),
                },
                label=f"in train mode in {len(wrong)} evaluations",
                severity=None if norm else "warning",
                subjects=frozenset([root.key]),
            )
        )  # fmt: skip
    return found


def _after_the_step(run: RunFacts, passes: list[EvalPass]) -> bool:
    """Once per step: an evaluation only where it comes behind the step, or says so by its name."""
    chain = passes[0].chain
    if any(word in site.code.co_name.lower() for site in chain for word in EVALUATION_WORDS):
        return True
    spots = {r.step_site.code: place(r.step_site) for r in run.optimizers.records if r.step_site is not None}
    for site in chain:
        step, call = spots.get(site.code), place(site)
        if step is not None and call is not None:
            return call.line > step.line
    return False


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.05)
test = torch.randn(64, 4)

def error():
    with torch.no_grad():
        return nn.functional.mse_loss(net(test), test[:, :1]).item()

for epoch in range(4):
    for step in range(10):
        x = torch.randn(16, 4)
        loss = nn.functional.mse_loss(net(x), x[:, :1])
        opt.zero_grad()
        loss.backward()
        opt.step()
    error()
"""

ILLNESS = Illness(
    slug="train-mode-while-evaluating",
    severity="error",
    manual=Manual(
        sees="2 or more evaluations of 20 or more rows without gradients in which active dropout ran "
        "or running "
        "statistics were updated. A warning if only dropout.",
        hurts="Scores are noisy or depend on the batch, and batch norm learns from the evaluation data.",
        fix="model.eval() before the evaluation, model.train() after it",
        unless="statistics are re-estimated on purpose, or predictions are averaged over dropout masks",
    ),
    judge=judge,
    read=read_train_mode_while_evaluating,
    runs=Runs(
        _RUN,
        (
            ("    with torch", "    net.eval()\n    with torch"),
            ("    for step", "    net.train()\n    for step"),
        ),
        _RUN.replace("nn.BatchNorm1d(8), ", ""),
    ),
)
