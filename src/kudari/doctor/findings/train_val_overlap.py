"""Rows of the training data are in the evaluation data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import median, place

if TYPE_CHECKING:
    from kudari.doctor.track.calls import EvalPass
    from kudari.doctor.track.rows import RowBook
    from kudari.doctor.track.run import RunFacts


MIN_ROWS = 10
LOW, HIGH = 0.05, 0.98
MIN_PASSES = 2
SUBSET = 0.9
NATURAL = 0.01


def judge(run: RunFacts) -> Verdict:
    """Share of the rows of every eval pass that were seen in training."""
    found, looked = [], False
    for root in run.trained_roots():
        book = run.data.rows.books.get(root.key)
        passes = [p for p in root.passes if p.rows_hashed >= MIN_ROWS and not p.feeds_training]
        passes = [p for p in passes if p.rows > p.calls]  # one row at a time is a rollout
        if book is None or not passes or len(book.seen) < MIN_ROWS:
            continue
        if is_drawn_anew(passes) or (book.discrete and repeats_by_nature(book, passes)):
            continue
        looked, seen = True, book.seen
        # What training draws later counts too: a set may be part of the training data from the start. But
        # rows that are trained on only after they were judged by (online learning) are no overlap.
        then = [p.rows_seen / p.rows_hashed for p in passes]
        last = [len(p.row_keys & seen) / max(1, len(p.row_keys)) for p in passes]
        shares = list(zip(passes, then, last, strict=True))
        partly = [p for p, before, after in shares if before >= LOW and after < HIGH]
        inside = [
            p
            for p, before, after in shares
            if before >= LOW
            and after >= HIGH
            and len(p.row_keys) < SUBSET * len(seen)
            and len(p.row_keys) >= MIN_ROWS
        ]
        disjoint = any(after < LOW for after in last)
        wrong = (
            partly
            if len(partly) >= MIN_PASSES
            else inside
            if len(inside) >= MIN_PASSES and not disjoint
            else []
        )
        if not wrong:
            continue
        rows = len(wrong[-1].row_keys)
        share = len(wrong[-1].row_keys & seen) / rows
        found.append(
            Found(
                f"{100 * share:.0f} % of the rows {root.kind} is evaluated on were seen in training",
                place(wrong[0].site),
                {
                    "count": len(wrong),
                    "first_step": wrong[0].tick,
                    "share": share,
                    "rows": rows,
                    "training_rows": len(seen),
                },
                label=f"{round(share * rows)} of {rows} rows are training rows",
                subjects=frozenset([root.key]),
            )
        )
    return found if looked else Skipped("no model was trained and evaluated on rows that can be compared")


def is_drawn_anew(passes: Sequence[EvalPass]) -> bool:
    """True for passes at every step, each over other rows: a part of the step, as with a replay buffer."""
    gaps = [b.tick - a.tick for a, b in pairwise(passes)]
    return bool(gaps) and median(gaps) <= 1 and not _same_set(passes)


def repeats_by_nature(book: RowBook, passes: Sequence[EvalPass]) -> bool:
    """True where rows of whole numbers come twice without being one row of one set."""
    if book.repeated >= LOW * book.hashed or not _same_set(passes):
        return True
    return not book.closed and book.hashed - len(book.seen) > NATURAL * book.hashed


def _same_set(passes: Sequence[EvalPass]) -> bool:
    return all(2 * len(a.row_keys & b.row_keys) >= len(a.row_keys | b.row_keys) for a, b in pairwise(passes))


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(8, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
x = torch.randn(200, 8)
y = x.sum(1, keepdim=True)
train, test = torch.arange(160), torch.arange(120, 200)
for epoch in range(4):
    for idx in train[torch.randperm(160)].split(20):
        loss = nn.functional.mse_loss(net(x[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        nn.functional.mse_loss(net(x[test]), y[test]).item()
"""

ILLNESS = Illness(
    slug="train-val-overlap",
    severity="error",
    manual=Manual(
        sees="Two evaluations of 10 or more rows in which 5 to 98 % of the rows were seen in "
        "training; or all of them, in "
        "a set smaller than the training set, while no other evaluation is disjoint from it.",
        hurts="The score measures memory: it rises while the model gets worse on new data.",
        fix="split once, before the loop, and index both sides from that split",
        unless="an accuracy on part of the training data is what is reported, or few different rows exist",
    ),
    judge=judge,
    runs=Runs(
        _RUN,
        (("torch.arange(120, 200)", "torch.arange(160, 200)"),),
        _RUN.replace("torch.arange(120, 200)", "torch.arange(160)"),
    ),
)
