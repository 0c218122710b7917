"""Units behind a ReLU that never fire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import main_curve, median, subjects_of, where

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


MIN_BATCHES, MIN_SAMPLES = 5, 500
MANY, NEARLY_ALL = 0.6, 0.9
LEARNED = 0.2


def judge(run: RunFacts) -> Verdict:
    """Channels at or below 0 in every sampled batch."""
    curve = main_curve(run, 10)
    units = {
        key: u for key, u in run.health.units.items() if u.batches >= MIN_BATCHES and u.samples >= MIN_SAMPLES
    }
    if curve is None or not units:
        return Skipped("no ReLU was sampled in 5 batches and 500 samples")
    tenth = max(1, len(curve.values) // 10)
    fell = 1 - median(curve.values[-tenth:]) / (median(curve.values[:tenth]) or 1.0)
    dead = {}
    for key, u in units.items():
        share = 1 - float(u.alive.float().mean())
        alone = key[1] == 1 and share == 1
        if alone or share >= NEARLY_ALL or (share >= MANY and fell < LEARNED):
            dead[key] = share
    if not dead:
        return []
    (index, width), share = max(dead.items(), key=lambda item: item[1])
    r = curve.optimizer
    return [
        Found(
            f"{100 * share:.0f} % of the {width} units behind ReLU {index + 1} from the output never fire",
            where(*(root.training_site for root in run.trained_roots()), r.site),
            {"count": round(share * width), "first_step": 0, "layers": len(dead), "width": width,
             "batches": units[index, width].batches, "loss_fell_by": fell},
            label=f"{round(share * width)} dead units",
            subjects=subjects_of(run, r),
        )
    ]  # fmt: skip


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
nn.init.constant_(net[0].bias, -8.0)
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(40):
    x = torch.randn(32, 4)
    loss = nn.functional.cross_entropy(net(x), x[:, :3].argmax(1))
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="dead-units",
    severity="warning",
    manual=Manual(
        sees="ReLU channels at or below 0 in every sampled batch (5 or more, 500 or more samples): "
        "60 % of a layer while "
        "the loss fell by less than 20 %, or 90 % of a layer, or a single output unit.",
        hurts="A unit that never fires gets no gradient and never comes back.",
        fix="a lower rate, a bias that starts at 0 or above, LeakyReLU or GELU",
        unless="experts are sparse on purpose, or the model learns all the same",
    ),
    judge=judge,
    runs=Runs(_LOOP, (("nn.init.constant_(net[0].bias, -8.0)\n", ""),), _LOOP.replace("-8.0", "0.1")),
)
