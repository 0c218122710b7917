"""A loss compares every prediction with every target because the shapes broadcast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_CALLS = 3
PAIRWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


def judge(run: RunFacts) -> Verdict:
    """Sides of a loss differ by one in rank and broadcast to more elements than either."""
    sites = [s for s in run.losses.sites.values() if s.name in PAIRWISE and s.looked >= MIN_CALLS]
    looked = any(r.looked >= MIN_CALLS for r in run.backwards.sites.values())
    if not sites and not looked:
        return Skipped("no backward was seen 3 times")
    found = []
    for s in sites:
        hits = s.broadcast
        if hits.count >= MIN_CALLS and hits.count * 2 >= s.looked:
            left, right = tuple(hits.detail["left"]), tuple(hits.detail["right"])
            pairs, single = hits.detail["pairs"], hits.detail["instead"]
            fix = f"{s.name}(prediction.squeeze(-1), target)" if len(left) > len(right) else (
                f"{s.name}(prediction, target.squeeze(-1))"
            )  # fmt: skip
            found.append(
                Found(
                    f"{s.name} compares {left} with {right}: every prediction meets every target",
                    place(s.site),
                    hits.evidence(calls=s.calls),
                    fix=f"give both sides one shape: {fix}",
                    label=f"{pairs} pairs instead of {single}, in {hits.count} of {s.looked} calls looked at",
                    subjects=frozenset([s.root.key]) if s.root else frozenset(),
                )
            )
    for site, hits in run.losses.by_hand.items():
        record = run.backwards.sites.get(site)
        if record is not None and hits.count >= MIN_CALLS and hits.count * 2 >= record.looked:
            rows = hits.detail["rows"]
            found.append(
                Found(
                    f"the loss written by hand reduces a ({rows}, {rows}) matrix while the model returns "
                    f"({rows}, 1): every prediction meets every target",
                    place(site),
                    hits.evidence(),
                    fix="squeeze the prediction before the difference: (prediction.squeeze(-1) - target)",
                    label=f"the loss holds {rows * rows} pairs instead of {rows}",
                )
            )
    return found


_LOOP = """\
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(30):
    x = torch.randn(16, 4)
    target = x[:, 0]
    loss = torch.nn.functional.mse_loss(net(x), target)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="loss-shape-broadcast",
    severity="error",
    manual=Manual(
        sees="mse_loss, l1_loss, smooth_l1_loss or huber_loss of two tensors whose ranks differ by "
        "one and that "
        "broadcast to more elements than either; or a loss written by hand that reduces an (N, N) matrix "
        "while the model returns (N, 1). In 3 or more calls.",
        hurts="The loss is smallest when every prediction is the mean of all targets, so the model "
        "learns a constant.",
        fix="give both sides one shape with squeeze() or unsqueeze()",
        unless="all pairs are meant; then expand() both sides",
    ),
    judge=judge,
    runs=Runs(
        _LOOP, (("net(x), target", "net(x).squeeze(1), target"),), _LOOP.replace("x[:, 0]", "x[:, :1]")
    ),
)
