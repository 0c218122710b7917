"""Batches hold one class each, or all labels are one class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CLASSES = 3
MIN_ROWS = 8
MIN_BATCHES = 5
MIN_SAMPLES = 200


def judge(run: RunFacts) -> Verdict:
    """Half of the batches hold a single class though several occur, or one class in 200 samples."""
    found, looked = [], False
    for s in run.losses.sites.values():
        batches = [b for b in s.batches if sum(b.values()) >= MIN_ROWS]
        if (
            s.name not in ("cross_entropy", "nll_loss")
            or s.classes < MIN_CLASSES
            or len(batches) < MIN_BATCHES
        ):
            continue
        looked = True
        classes = {c for b in batches for c in b}
        single = sum(len(b) == 1 for b in batches)
        samples = sum(sum(b.values()) for b in batches)
        if len(classes) >= 2 and single * 2 >= len(batches):
            message = f"{single} of {len(batches)} batches hold one class only: the data are sorted"
            fix = "DataLoader(dataset, batch_size, shuffle=True)"
        elif len(classes) == 1 and samples >= MIN_SAMPLES and s.class_layer:
            message = f"all {samples} labels looked at are class {next(iter(classes))}"
            fix = "look at how labels are read and indexed; shuffle the data: DataLoader(..., shuffle=True)"
        else:
            continue
        found.append(
            Found(
                message,
                place(s.site),
                {"count": single, "first_step": 0, "batches": len(batches), "classes_seen": len(classes)},
                fix,
                label=f"{len(classes)} of {s.classes} classes in {samples} labels",
                subjects=frozenset([s.root.key]) if s.root else frozenset(),
            )
        )
    return found if looked else Skipped("no loss over 3 or more classes was given 5 batches of 8 or more")


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(4, 3)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
y = torch.arange(3).repeat_interleave(80)
x = torch.randn(240, 4) + y[:, None]
for epoch in range(4):
    order = torch.arange(240)
    for idx in order.split(16):
        loss = nn.functional.cross_entropy(net(x[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
"""

ILLNESS = Illness(
    slug="constant-labels-or-unshuffled",
    severity="warning",
    manual=Manual(
        sees="With 3 or more classes and batches of 8 or more: half or more of 5 or more batches "
        "hold one class though "
        "several occur; or a single class in 200 or more samples.",
        hurts="Each step pulls towards the class of its batch and undoes the one before.",
        fix="DataLoader(dataset, batch_size, shuffle=True), or a random permutation per epoch",
        unless="batches are drawn per class on purpose",
    ),
    judge=judge,
    runs=Runs(
        _RUN,
        (("torch.arange(240)", "torch.randperm(240)"),),
        _RUN.replace("repeat_interleave(80)", "repeat(80)"),
    ),
)
