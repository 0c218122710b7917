"""Every schedule sits the public exam beside its formula written a second time."""

import math

import pytest

from kudari.schedules import (
    constant,
    cooldown_from,
    cosine,
    curve,
    cyclic,
    freeze,
    function,
    infinite,
    linear,
    names,
    parse,
    plateau,
    warmup,
    wsd,
)
from kudari.schedules.curve import length, number
from kudari.testing.schedule_exam import check_schedule


def cosine_of(x):
    return (1 + math.cos(math.pi * x)) / 2


def wsd_of(t, total):
    first, last = math.floor(0.1 * total + 0.5), total - math.floor(0.8 * total + 0.5)
    if t < first:
        return (t + 1) / (first + 1)
    stay = total - last
    return 1.0 if t < stay or last == 0 else 0.1 + 0.9 * (1 - math.sqrt((t - stay) / last))


def one_cycle_of(t, total):
    up = 0.3 * total
    if t <= up:
        return 0.04 + 0.96 * (1 - cosine_of(t / up))
    return 4e-6 + (1 - 4e-6) * cosine_of((t - up) / (0.7 * total))


LONG = (1000, 2500)
EXAMS = {
    "constant(0.3)": ({}, lambda t, n: 0.3, 0.3),
    "linear(0.2, 0.7)": ({}, lambda t, n: 0.2 + 0.5 * t / n, 0.7),
    "cosine(floor=0.1)": ({}, lambda t, n: 0.1 + 0.9 * cosine_of(t / n), 0.1),
    "polynomial(2, 0.1)": ({}, lambda t, n: 0.1 + 0.9 * (1 - t / n) ** 2, 0.1),
    "exponential(0.01)": ({}, lambda t, n: 0.01 ** (t / n), 0.01),
    "rex(0.1)": ({}, lambda t, n: 0.1 + 0.9 * (1 - t / n) / (1 - t / n / 2), 0.1),
    "inverse_sqrt(40)": ({}, lambda t, n: math.sqrt(40 / (40 + t)), None),
    "exponential_warmup(40)": ({}, lambda t, n: 1 - math.exp(-(t + 1) / 40), None),
    "one_cycle()": ({"totals": LONG}, one_cycle_of, 4e-6),
    "step(30, 0.5)": ({}, lambda t, n: 0.5 ** (t // 30), None),
    "multi_step((3, 70), 0.5)": ({}, lambda t, n: 0.5 ** ((t >= 3) + (t >= 70)), None),
    "cooldown('100%', shape='linear')": ({}, lambda t, n: 1 - t / n, 0.0),
    "cooldown('100%', shape='cosine', floor=0.2)": ({}, lambda t, n: 0.2 + 0.8 * cosine_of(t / n), 0.2),
    "cosine_restarts(50)": ({"totals": LONG}, lambda t, n: cosine_of((t % 50) / 50 if t < n else 1), 0.0),
    "cyclic(20, 30, low=0.1)": (
        {},
        lambda t, n: 0.1 + 0.9 * min(t % 50 / 20, (50 - t % 50) / 30),
        None,
    ),
    "wsd('10%', '20%', floor=0.1)": ({"totals": (10, 97, *LONG)}, wsd_of, 0.1),
}


@pytest.mark.parametrize("text", EXAMS)
def test_a_schedule_equals_its_formula_written_a_second_time(text):
    kwargs, reference, ends_at = EXAMS[text]
    check_schedule(parse(text), reference=reference, ends_at=ends_at, **kwargs)


@pytest.mark.parametrize("text", names())
def test_every_schedule_passes_the_exam_with_its_defaults(text):
    check_schedule(parse(text), totals=(1500, 2500) if text == "infinite" else (1, 2, 10, 97, 2500))


def test_every_name_has_a_second_formula_or_is_a_composition():
    examined = {text.split("(")[0] for text in EXAMS}
    compositions = {name for name in names() if "_" in name and name.startswith("warmup_")}
    assert set(names()) - examined - compositions == {"warmup", "infinite", "plateau"}


@pytest.mark.parametrize("shape", ["1-sqrt", "linear", "cosine"])
@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_wsd_reaches_its_floor_exactly_whatever_the_shape(shape, floor):
    check_schedule(wsd(floor=floor, shape=shape), ends_at=floor, totals=(100, 1001))
    assert wsd(floor=floor, shape=shape).factor(1001, 1001) == floor


@pytest.mark.parametrize(
    "schedule",
    [
        warmup("10%") >> constant(0.5, length="30%") >> cosine(),
        (warmup(1) >> cosine()) * 0.5 * plateau(),
        function(lambda t: 1 / (t + 1)) * cosine(),
        linear(0, 1, length=1) >> function(lambda t: 0.9, cumulative=True),
        freeze(cosine(), 30, total_steps=60),
        cooldown_from(infinite(5), 8, 2),
    ],
    ids=str,
)
def test_compositions_pass_the_exam(schedule):
    check_schedule(schedule, totals=(10, 97, 1000))


def test_a_curve_of_your_own_passes_the_exam():
    @curve(source="a test")
    def ramp(t, T, start=number(0.0, at_least=0), *, length=length(None)):
        return start + (1 - start) * t / T

    check_schedule(ramp(0.5) >> constant(0.5, length=1), totals=(10, 97))
    assert str(ramp(0.5)) == "ramp(start=0.5)"


def test_a_cooldown_from_a_checkpoint_follows_the_plan_up_to_it():
    plan = warmup("10%") >> cosine()
    branch = plan.cooldown_from(400, 100, shape="linear", floor=0.5, total_steps=1000)
    before, after = plan.bind(1000), branch.bind(500)
    assert [after(t) for t in range(401)] == [before(t) for t in range(401)]
    assert after(450) == pytest.approx(before(400) * 0.75)
    assert after(500) == pytest.approx(before(400) * 0.5)


def test_triangular2_halves_the_height_every_cycle():
    bound = cyclic(10, low=0.2, mode="triangular2").bind(100)
    assert [bound(t) for t in (10, 30, 50)] == pytest.approx([1.0, 0.6, 0.4])
