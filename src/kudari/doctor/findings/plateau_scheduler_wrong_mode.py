"""ReduceLROnPlateau watches a value that should rise as if it should fall, or the reverse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place, subjects_of

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_VALUES = 6
MIN_TAU = 0.5


def kendall_tau(values: Sequence[float]) -> float:
    """Rank correlation with time: 1 when always rising, -1 when always falling.

    Example:
        >>> kendall_tau([1.0, 2.0, 3.0])
        1.0
    """
    pairs = [(a < b) - (a > b) for i, a in enumerate(values) for b in values[i + 1 :]]
    return sum(pairs) / len(pairs)


def judge(run: RunFacts) -> Verdict:
    """A trend of the fed values against the mode, and a rate that was cut for it."""
    records = [s for s in run.schedules.records if s.plateau and len(s.fed) >= MIN_VALUES]
    if not records:
        return Skipped("no ReduceLROnPlateau was fed 6 values")
    found = []
    for s in records:
        tau = kendall_tau(s.fed[:500])
        against = tau if s.mode == "min" else -tau
        if against < MIN_TAU or not s.cuts:
            continue
        other = "max" if s.mode == "min" else "min"
        found.append(
            Found(
                f"ReduceLROnPlateau has mode={s.mode!r} and is fed a "
                f"{'rising' if tau > 0 else 'falling'} series: "
                f"it cuts the rate while the metric improves",
                place(s.site),
                {"count": s.cuts, "first_step": s.built_at, "values": len(s.fed), "kendall_tau": tau,
                 "first": s.fed[0], "last": s.fed[-1]},
                fix=f"ReduceLROnPlateau(optimizer, mode={other!r})",
                label=f"from {s.fed[0]:.3g} to {s.fed[-1]:.3g}; the rate was cut {s.cuts} times",
                subjects=subjects_of(run, s.owner),
            )
        )  # fmt: skip
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.02)
sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, mode="min", patience=1)
for epoch in range(12):
    for i in range(5):
        x = torch.randn(64, 4)
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(net(x), x[:, :1])
        loss.backward()
        opt.step()
    sched.step(epoch / 12)
"""

ILLNESS = Illness(
    slug="plateau-scheduler-wrong-mode",
    severity="warning",
    manual=Manual(
        sees="ReduceLROnPlateau was fed 6 or more values whose rank correlation with time is 0.5 or "
        "more against its "
        "mode (min fed a rising series, max a falling one), and the rate was cut.",
        hurts="The rate is cut while the metric improves, and training comes to rest early.",
        fix='mode="max" for accuracies and scores, mode="min" for losses and errors',
        unless="the metric really gets worse; then the cut is right and another finding matters more",
    ),
    judge=judge,
    runs=Runs(_LOOP, (('mode="min"', 'mode="max"'),), _LOOP.replace("epoch / 12", "loss.item()")),
)
