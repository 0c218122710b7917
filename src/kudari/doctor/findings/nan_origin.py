"""Where the first value that is not finite came from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kudari.doctor.finding import Found, Illness, Manual, Place, Runs, Skipped, Verdict
from kudari.doctor.judging import place, subjects_of, where
from kudari.doctor.static.operations import nearest_operation

if TYPE_CHECKING:
    from kudari.doctor.track.counting import Hits
    from kudari.doctor.track.optimizers import OptimizerRecord
    from kudari.doctor.track.replay import Origin
    from kudari.doctor.track.run import RunFacts


FIXES = {
    "log": "torch.log(p.clamp_min(1e-8)), or work with log_softmax from the start",
    "sqrt": "torch.sqrt(x + 1e-8)",
    "division": "x / (y + 1e-8), or x / y.clamp_min(1e-8)",
    "power": "clamp the base: x.clamp_min(1e-8) ** exponent",
    "overflow": "clamp the argument, or subtract the maximum; in half precision bfloat16 or a GradScaler",
    "input": "assert torch.isfinite(x).all() where the batch is made; replace missing values",
    "range": "clamp the argument just inside the open interval, such as x.clamp(-1 + 1e-6, 1 - 1e-6)",
    "gradient": "an epsilon inside sqrt, norm, log and division: their slope at 0 is infinite",
}


def judge(run: RunFacts) -> Verdict:
    """The first loss or gradient that is not finite, and the operation behind it."""
    if not run.backwards.sites:
        return Skipped("no backward was seen")
    bad, gradients = run.health.bad_loss, run.health.bad_gradient
    if bad is None and not gradients:
        return []
    if run.schedules.scalers and not _persists(run):
        return []
    key, hits = next(iter(gradients.items())) if gradients else (None, None)
    record = run.optimizers.by_key.get(key) if key is not None else None
    if bad is None or (bad["cause"] == "weights" and hits is not None and hits.first_step < bad["tick"]):
        if record is None or hits is None:
            return []
        return [_of_gradient(run, record, hits)]
    if (origin := bad.get("origin")) is not None:
        return [_of_origin(run, bad, origin)]
    if bad["cause"] == "weights" and not hits:
        operation, detail = "", "the parameters were not finite before this step"
    else:
        operation, detail = bad["operation"], bad["detail"]
    where_made = nearest_operation(place(bad["site"]), bad["cause"])
    spot = Place(place(bad["site"]).file, where_made) if where_made and bad["site"] else place(bad["site"])  # type: ignore[union-attr]
    records = [r for r in run.optimizers.records if r.steps]
    return [
        Found(
            f"the loss is {bad['value']} from step {bad['tick']} on: {detail}",
            spot,
            {
                "count": bad["backward"].nonfinite.count,
                "first_step": bad["tick"],
                "cause": bad["cause"],
                "operation": operation,
            },
            fix=FIXES.get(bad["cause"], ""),
            label=detail,
            subjects=subjects_of(run, records[0]) if len(records) == 1 else frozenset(),
        )
    ]


def _of_origin(run: RunFacts, bad: dict[str, Any], origin: Origin) -> Found:
    inside = f" in {origin.module} ({origin.kind})" if origin.module else f" in {origin.kind}"
    detail = origin.detail + (inside if origin.operation else "")
    records = [r for r in run.optimizers.records if r.steps]
    return Found(
        f"the loss is {bad['value']} from step {bad['tick']} on: {detail}",
        where(origin.site, bad["site"]),
        {
            "count": bad["backward"].nonfinite.count, "first_step": bad["tick"], "cause": origin.cause,
            "operation": origin.operation, "module": origin.module,
        },
        fix=FIXES.get(origin.cause, ""),
        label=origin.detail,
        subjects=subjects_of(run, records[0]) if len(records) == 1 else frozenset(),
    )  # fmt: skip


def _of_gradient(run: RunFacts, record: OptimizerRecord, hits: Hits) -> Found:
    site = max(run.backwards.sites.values(), key=lambda s: s.count).site
    slope = run.health.bad_slope
    if slope is not None and slope.operation:
        inside = f" in {slope.module} ({slope.kind})" if slope.module else f" in {slope.kind}"
        return Found(
            f"gradients are not finite at step {hits.first_step} although the loss was: "
            f"the slope of {slope.detail}{inside}",
            where(slope.site, site),
            {
                "count": hits.count, "first_step": hits.first_step, "cause": "gradient",
                "operation": slope.operation, "module": slope.module,
            },
            fix=FIXES["gradient"],
            label=f"slope of {slope.detail}",
            subjects=subjects_of(run, record),
        )  # fmt: skip
    near = place(site)
    line = nearest_operation(near, "gradient")
    return Found(
        f"gradients are not finite at step {hits.first_step} although the loss was: a slope is infinite",
        Place(near.file, line) if near and line else where(site),
        {"count": hits.count, "first_step": hits.first_step, "cause": "gradient"},
        fix=FIXES["gradient"],
        label="an infinite slope" if line else "the gradient of this loss",
        subjects=subjects_of(run, record),
    )


def _persists(run: RunFacts) -> bool:
    site = max(run.backwards.sites.values(), key=lambda s: s.count)
    return bool(site.losses.values) and not math.isfinite(site.losses.values[-1])


_LOOP = """\
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(4, 3)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(40):
    x = torch.randn(32, 4)
    if step == 20:
        x = x * 1e4
    p = torch.softmax(net(x), 1)
    loss = -(p * torch.log(p)).sum(1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

ILLNESS = Illness(
    slug="nan-origin",
    severity="error",
    manual=Manual(
        sees="The first loss or gradient that is not finite. The saved values of its graph are "
        "searched for the operation "
        "that made it: input, log, sqrt, division, power, overflow; and the model runs once more on the "
        "same batch, as a copy, so that the first operation and its module are named.",
        hurts="One step with such a gradient makes every parameter NaN.",
        fix="an epsilon inside the operation, a clamp, or torch.where on its input",
        unless="a GradScaler skips the step, or infinite values are masked",
    ),
    judge=judge,
    runs=Runs(_LOOP, (("torch.log(p)", "torch.log(p.clamp_min(1e-8))"),), _LOOP.replace("x * 1e4", "x * 2")),
)
