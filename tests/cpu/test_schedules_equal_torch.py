"""Every scheduler of torch's documentation beside its equal here, value by value over 1,000 steps.

The tolerance 1e-9 (relative to the peak) covers torch's chainable forms, which multiply a rounding error at
each of the 1,000 steps (1000 * 2**-53 * a few operations); our closed forms are within 1e-12 of the formula.
"""

import math
import warnings

import pytest
import torch
from torch.optim import lr_scheduler as torch_lr
from torch.optim.swa_utils import SWALR

from kudari.schedules import (
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    exponential,
    function,
    linear,
    multi_step,
    one_cycle,
    plateau,
    polynomial,
    step,
)

STEPS = 1000
LR = 0.5


def make():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)


def follow(scheduler, optimizer, steps=STEPS, key="lr"):
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0][key])
        optimizer.step()
        scheduler.step()
    return seen


def theirs(build, key="lr", steps=STEPS):
    optimizer = make()
    return follow(build(optimizer), optimizer, steps, key)


def ours(schedule, total=10 * STEPS, key="lr", steps=STEPS, lr=LR, **kwargs):
    optimizer = make()
    optimizer.param_groups[0]["lr"] = lr
    return follow(schedule.attach(optimizer, total, **kwargs), optimizer, steps, key)


def decay(t):
    return 0.999**t


def shrink(t):
    return 1 - 1 / (t + 10)


def sequential(optimizer):
    parts = [torch_lr.LinearLR(optimizer, 0.1, 1.0, 50), torch_lr.CosineAnnealingLR(optimizer, 950)]
    return torch_lr.SequentialLR(optimizer, parts, [50])


CASES = {
    "LambdaLR": (lambda o: torch_lr.LambdaLR(o, decay), function(decay)),
    "MultiplicativeLR": (lambda o: torch_lr.MultiplicativeLR(o, shrink), function(shrink, cumulative=True)),
    "StepLR": (lambda o: torch_lr.StepLR(o, 30, 0.8), step(30, 0.8)),
    "MultiStepLR": (lambda o: torch_lr.MultiStepLR(o, [30, 80, 80, 700]), multi_step((30, 80, 80, 700))),
    "ConstantLR": (
        lambda o: torch_lr.ConstantLR(o, 0.25, total_iters=40),
        constant(0.25, length=40) >> constant(),
    ),
    "LinearLR": (lambda o: torch_lr.LinearLR(o, 0.25, 0.75, 400), linear(0.25, 0.75, length=400)),
    "ExponentialLR": (lambda o: torch_lr.ExponentialLR(o, 0.995), exponential(0.995, every=1)),
    "PolynomialLR": (lambda o: torch_lr.PolynomialLR(o, 999, 2.0), polynomial(2, length=999)),
    "CosineAnnealingLR": (
        lambda o: torch_lr.CosineAnnealingLR(o, 1000, eta_min=0.05),
        cosine(floor=0.1, length=1000),
    ),
    "CosineAnnealingWarmRestarts": (
        lambda o: torch_lr.CosineAnnealingWarmRestarts(o, 70, eta_min=0.05),
        cosine_restarts(70, low=0.1),
    ),
    "CosineAnnealingWarmRestarts growing": (
        lambda o: torch_lr.CosineAnnealingWarmRestarts(o, 9, 3),
        cosine_restarts(9, 3),
    ),
    "CyclicLR triangular": (
        lambda o: torch_lr.CyclicLR(o, 0.1, LR, 40, 77, cycle_momentum=False),
        cyclic(40, 77, low=0.2),
    ),
    "CyclicLR triangular2": (
        lambda o: torch_lr.CyclicLR(o, 0.1, LR, 50, mode="triangular2", cycle_momentum=False),
        cyclic(50, low=0.2, mode="triangular2"),
    ),
    "CyclicLR exp_range": (
        lambda o: torch_lr.CyclicLR(o, 0.1, LR, 50, mode="exp_range", gamma=0.999, cycle_momentum=False),
        cyclic(50, low=0.2, mode="exp_range", gamma=0.999),
    ),
    "OneCycleLR": (
        lambda o: torch_lr.OneCycleLR(o, LR, 1000, cycle_momentum=False),
        one_cycle(299, length=999),
    ),
    "OneCycleLR linear": (
        lambda o: torch_lr.OneCycleLR(o, LR, 1000, anneal_strategy="linear", cycle_momentum=False),
        one_cycle(299, length=999, shape="linear"),
    ),
    "OneCycleLR three phases": (
        lambda o: torch_lr.OneCycleLR(o, LR, 1000, three_phase=True, cycle_momentum=False),
        one_cycle(299, length=999, three_phase=True),
    ),
    "SequentialLR": (sequential, linear(0.1, 1, length=50) >> cosine(length=950)),
    "ChainedScheduler": (
        lambda o: torch_lr.ChainedScheduler(
            [torch_lr.LinearLR(o, 0.1, 1.0, 20), torch_lr.ExponentialLR(o, 0.99)]
        ),
        linear(0.1, 1, length=20) * exponential(0.99, every=1),
    ),
    "SWALR": (lambda o: SWALR(o, 0.05, anneal_epochs=300), cosine(floor=0.1, length=300)),
    "SWALR linear": (
        lambda o: SWALR(o, 0.05, anneal_epochs=300, anneal_strategy="linear"),
        linear(1, 0.1, length=300),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_to_torch_where_torch_is_right(name):
    build, schedule = CASES[name]
    assert ours(schedule) == pytest.approx(theirs(build), abs=1e-9 * LR, rel=0)


def test_every_scheduler_in_torchs_list_is_compared():
    compared = {name.split()[0] for name in CASES} | {"ReduceLROnPlateau", "LRScheduler"}
    assert set(torch_lr.__all__) <= compared


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_plateau_equals_reduce_lr_on_plateau_on_a_thousand_metrics(mode, threshold_mode):
    optimizer, mine = make(), make()
    settings = {"mode": mode, "threshold_mode": threshold_mode, "threshold": 0.01, "patience": 7}
    judge = torch_lr.ReduceLROnPlateau(optimizer, factor=0.9, cooldown=3, min_lr=0.1 * LR, eps=0, **settings)
    scheduler = plateau(0.9, cooldown=3, floor=0.1, **settings).attach(mine, STEPS)
    generator = torch.Generator().manual_seed(0)
    metrics = [math.exp(-t / 500) + 0.1 * torch.rand((), generator=generator).item() for t in range(STEPS)]
    metrics[100] = math.nan
    seen = set()
    for metric in metrics:
        judge.step(metric)
        scheduler.report(metric)
        assert mine.param_groups[0]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        seen.add(round(mine.param_groups[0]["lr"], 9))
    assert len(seen) > 5


def test_momentum_follows_torchs_one_cycle():
    want = theirs(lambda o: torch_lr.OneCycleLR(o, LR, 1000), key="momentum")
    optimizer = make()
    optimizer.param_groups[0]["momentum"] = 0.95
    down = one_cycle(299, start=0.85 / 0.95, end=0.85 / 0.95, length=999)
    # The momentum is high where the learning rate is low: 1 + 0.85/0.95 - its curve.
    turned = function(lambda t: 1 + 0.85 / 0.95 - down.factor(t, 999))
    got = follow(constant().attach(optimizer, STEPS, also={"momentum": turned}), optimizer, key="momentum")
    assert got == pytest.approx(want, abs=1e-9)


# --- where torch is wrong, the closed form is the judge


def test_cosine_holds_its_floor_where_torch_rises_again():
    build, schedule = lambda o: torch_lr.CosineAnnealingLR(o, 400), cosine(length=400)
    rebounding = theirs(build)
    assert max(rebounding[500:]) > 0.9 * LR
    want = [LR * (1 + math.cos(math.pi * min(t, 400) / 400)) / 2 for t in range(STEPS)]
    assert ours(schedule) == pytest.approx(want, abs=1e-12)


def test_a_sequence_resumed_in_the_middle_goes_on_where_it_was():
    schedule = linear(0.1, 1, length=50) >> exponential(0.99, every=1)

    def build(optimizer):
        parts = [torch_lr.LinearLR(optimizer, 0.1, 1.0, 50), torch_lr.ExponentialLR(optimizer, 0.99)]
        return torch_lr.SequentialLR(optimizer, parts, [50])

    straight = ours(schedule)
    for at in (1, 49, 50, 51, 73):
        optimizer = make()
        scheduler = schedule.attach(optimizer, 10 * STEPS)
        follow(scheduler, optimizer, at)
        again = make()
        resumed = schedule.attach(again, 10 * STEPS)
        resumed.load_state_dict(scheduler.state_dict())
        assert follow(resumed, again, 100) == straight[at : at + 100]
    # Torch's constructor sets the first rate again and its state does not bring the right one back.
    optimizer = make()
    scheduler = build(optimizer)
    follow(scheduler, optimizer, 73)
    again = make()
    resumed = build(again)
    resumed.load_state_dict(scheduler.state_dict())
    assert again.param_groups[0]["lr"] != pytest.approx(straight[73])


def test_chained_functions_multiply_where_torch_keeps_only_the_last():
    want = [LR * decay(t) * shrink(t) for t in range(STEPS)]
    assert ours(function(decay) * function(shrink)) == pytest.approx(want, abs=1e-12)
    lost = theirs(
        lambda o: torch_lr.ChainedScheduler([torch_lr.LambdaLR(o, decay), torch_lr.LambdaLR(o, shrink)])
    )
    assert lost != pytest.approx(want)


# --- beside torch's own machinery


def test_torchs_sequential_and_chained_schedulers_accept_ours():
    optimizer = make()
    parts = [linear(0, 1, length=10).attach(optimizer, 100), cosine(length=90).attach(optimizer, 100)]
    sequence = torch_lr.SequentialLR(optimizer, parts, [10])
    want = ours(linear(0, 1, length=10) >> cosine(), 100, steps=100)
    assert follow(sequence, optimizer, 100) == pytest.approx(want, abs=1e-15)
    optimizer = make()
    chained = torch_lr.ChainedScheduler([cosine().attach(optimizer, 100)])
    assert follow(chained, optimizer, 100) == ours(cosine(), 100, steps=100)


def test_no_warning_in_any_order_of_use():
    optimizer = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = cosine().attach(optimizer, 10)
        scheduler.step()
        scheduler.step(5)
        scheduler.get_lr()
    assert scheduler.last_epoch == 5
