"""Evaluation data are prepared in another way than training data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import median, place

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_VALUES = 200
RATIO = 3.0


def judge(run: RunFacts) -> Verdict:
    """Mean and spread of the first layer's input, training against every eval pass."""
    found, looked = [], False
    for root in run.trained_roots():
        passes = [p for p in root.passes if p.moments and p.moments[2] >= MIN_VALUES and not p.feeds_training]
        train = [m for m in root.train_inputs if m["std"] > 0]
        if len(passes) < 2 or len(train) < 3 or root.normalises_first:
            continue
        looked = True
        mean, std = median(m["mean"] for m in train), median(m["std"] for m in train)
        if not all(_differs(mean, std, p.moments) for p in passes):
            continue
        other = passes[-1].moments
        assert other is not None
        found.append(
            Found(
                f"{root.kind} is trained on inputs with mean {mean:.3g} and standard deviation "
                f"{std:.3g} and evaluated "
                f"on {other[0]:.3g} and {other[1]:.3g}",
                place(passes[0].site),
                {"count": len(passes), "first_step": passes[0].tick, "train_mean": mean, "train_std": std,
                 "eval_mean": other[0], "eval_std": other[1]},
                label="differently prepared inputs",
                subjects=frozenset([root.key]),
            )
        )  # fmt: skip
    return found if looked else Skipped("no model was evaluated twice on 200 values")


def _differs(mean: float, std: float, moments: tuple[float, float, int] | None) -> bool:
    assert moments is not None
    return abs(moments[0] - mean) > std or not 1 / RATIO <= moments[1] / std <= RATIO


_RUN = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
raw = torch.randn(400, 8) * 12 + 20
x, y = (raw[:300] - 20) / 12, raw[:300, :1] / 20
test = raw[300:]
for epoch in range(4):
    net.train()
    for idx in torch.randperm(300).split(30):
        loss = nn.functional.mse_loss(net(x[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    net.eval()
    with torch.no_grad():
        nn.functional.mse_loss(net(test), test[:, :1] / 20).item()
"""

ILLNESS = Illness(
    slug="eval-preprocessing-differs",
    severity="warning",
    manual=Manual(
        sees="The first layer's input in every evaluation has a mean off by more than one training "
        "standard deviation, or "
        "a spread outside a third to three times of it.",
        hurts="The model is scored on data it was not trained for, and looks worse than it is.",
        fix="one transform for both, with statistics of the training data",
        unless="the evaluation is meant to be on other data",
    ),
    judge=judge,
    runs=Runs(_RUN, (("test = raw[300:]\n", "test = (raw[300:] - 20) / 12\n"),
                     ("test[:, :1] / 20", "(test[:, :1] * 12 + 20) / 20")),
              _RUN.replace("test = raw[300:]", "test = (raw[300:] - 21) / 13")),
)  # fmt: skip
