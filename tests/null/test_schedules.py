"""Schedules without torch: values, composition, lengths, texts."""

import itertools
import json
import math
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kudari import schedules
from kudari.compile.expression import evaluate
from kudari.compile.latex import latex
from kudari.errors import ArgumentError, HyperError
from kudari.schedules import (
    BatchSizes,
    constant,
    cosine,
    cosine_restarts,
    function,
    infinite,
    inverse_sqrt,
    linear,
    names,
    one_cycle,
    parse,
    plateau,
    warmup,
)  # fmt: skip
from kudari.schedules.parse import makers


def values(schedule, total, steps=None, **run):
    bound = schedule.bind(total, **run)
    return [bound(step) for step in range(total + 1 if steps is None else steps)]


def test_nothing_but_attach_imports_torch():
    code = (
        "import sys; from kudari.schedules import parse;"
        "parse('warmup_cosine').factor(3, 100); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_warmup_reaches_the_peak_where_the_next_schedule_begins():
    got = values(warmup(4) >> constant(), 10)
    assert got == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * 7)


def test_exponential_warmup_multiplies_by_one_number():
    got = values(warmup(9, start=0.01, shape="exponential") >> constant(), 20)
    ratios = [b / a for a, b in itertools.pairwise(got[:10])]
    assert ratios == pytest.approx([ratios[0]] * 9)
    assert got[9] == 1


def test_cosine_is_half_a_wave_and_ends_exactly_on_the_floor():
    got = values(cosine(floor=0.1), 1000)
    want = [0.1 + 0.9 * (1 + math.cos(math.pi * t / 1000)) / 2 for t in range(1001)]
    assert got == pytest.approx(want, abs=1e-15)
    assert got[-1] == 0.1


@pytest.mark.parametrize("text", names())
def test_past_the_end_the_last_value_is_held(text):
    bound = parse(text).bind(2000)
    assert [bound(step) for step in (2001, 2500, 100_000)] == [bound(2000)] * 3


@pytest.mark.parametrize("text", names())
def test_a_value_does_not_depend_on_what_was_asked_before(text):
    forward, backward = parse(text).bind(3000), parse(text).bind(3000)
    want = [forward(step) for step in range(3001)]
    assert [backward(step) for step in reversed(range(3001))][::-1] == want


@pytest.mark.parametrize("text", names())
def test_the_table_equals_the_expression(text):
    bound = parse(text).bind(1500)
    for step in range(0, 1530, 17):
        want = evaluate(bound.expression, {"t": float(step), "plateau": 1.0})
        assert bound(step) == pytest.approx(want, rel=1e-13, abs=1e-14)


@pytest.mark.parametrize("text", [*names(), "0.5 * cosine() >> linear(1, 2, length=3)"])
def test_the_text_of_a_schedule_reads_back_as_the_same_schedule(text):
    schedule = parse(text)
    assert parse(str(schedule)) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_a_sequence_is_associative_and_each_part_has_its_own_time():
    a, b, c = linear(0, 1, length=10), constant(0.5, length=5), cosine()
    assert (a >> b) >> c == a >> (b >> c)
    got = values(a >> b >> c, 40)
    assert got[:15] == [step / 10 for step in range(10)] + [0.5] * 5
    assert got[15:] == values(cosine(), 25)


def test_a_product_multiplies_and_shorter_parts_hold():
    got = values(linear(0, 1, length=10) * cosine(floor=0.2), 100)
    ramp, wave = values(linear(0, 1, length=10), 100), values(cosine(floor=0.2), 100)
    assert got == pytest.approx([x * y for x, y in zip(ramp, wave, strict=True)])
    assert values(0.5 * cosine(), 10) == [0.5 * x for x in values(cosine(), 10)]


def test_star_binds_tighter_than_arrow_and_parentheses_survive():
    schedule = parse("(warmup(5) >> cosine()) * 0.5")
    assert str(schedule) == "(warmup(5) >> cosine()) * constant(value=0.5)"
    assert parse(str(schedule)) == schedule


@given(
    total=st.integers(1, 5000),
    shares=st.lists(st.integers(1, 40), min_size=1, max_size=6),
)
def test_percentages_that_sum_to_the_run_fill_it_exactly(total, shares):
    whole = sum(shares)
    texts = [f"{100 * share / whole:.9f}%" for share in shares[:-1]]
    parts = [constant(i, length=text) for i, text in enumerate(texts)] + [constant(len(texts))]
    schedule = parts[0]
    for part in parts[1:]:
        schedule = schedule >> part
    got = values(schedule, total, steps=total)
    assert got == sorted(got)
    for index, share in enumerate(shares):
        assert abs(got.count(float(index)) - total * share / whole) <= 1


@pytest.mark.parametrize(
    ("length", "steps"),
    [("3 epochs", 30), ("10%", 20), ("320 samples", 10), ("4K tokens", 4), (7, 7), ("1.5 epochs", 15)],
)
def test_lengths_in_every_unit(length, steps):
    run = {"steps_per_epoch": 10, "batch_size": 32, "tokens_per_step": 1000}
    got = values(constant(0, length=length) >> constant(1), 200, **run)
    assert got.index(1.0) == steps


@pytest.mark.parametrize(
    ("text", "run", "words"),
    [
        ("warmup(500) >> cosine(length=800)", {"total_steps": 1000},
         ["500 + ", "800 = 1300 steps", "there are 1000", "300 too many"]),
        ("warmup('60%') >> cosine(length='50%')", {"total_steps": 10},
         ["6 + ", "5 = 11 steps", "1 too many"]),
        ("cosine(length=2000)", {"total_steps": 1000}, ["2000 steps", "1000 too many"]),
        ("cosine() >> linear()", {"total_steps": 10}, ["cosine() and linear()", "length="]),
        ("cosine", {}, ["total_steps"]),
        ("warmup('2%') >> constant()", {}, ["2%", "total_steps"]),
        ("constant() >> linear(length=5)", {}, ["rest", "total_steps"]),
        ("cosine", {"total_steps": 1000, "epochs": 10, "steps_per_epoch": 90},
         ["10 x", "= 900 steps", "total_steps=1000"]),
        ("cosine(length='2 epochs')", {"total_steps": 10}, ["2 epochs", "steps_per_epoch"]),
        ("cosine", {"total_steps": 0}, ["total_steps=0"]),
    ],
)  # fmt: skip
def test_contradictory_lengths_are_refused_with_the_arithmetic(text, run, words):
    with pytest.raises(ArgumentError) as caught:
        parse(text).bind(**run)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"total_steps": "1000"}, "total_steps='1000' is not a whole number"),
        ({"total_steps": math.nan}, "total_steps=nan is not a whole number"),
        ({"total_steps": math.inf}, "total_steps=inf is not a whole number"),
        ({"epochs": "3", "steps_per_epoch": 10}, "epochs='3' is not a number above 0"),
        ({"epochs": 0.01, "steps_per_epoch": 10}, "epochs=0.01 x steps_per_epoch=10 is less than a step"),
    ],
)
def test_a_size_that_is_no_size_is_refused(run, words):
    with pytest.raises(ArgumentError, match=words):
        cosine().bind(**run)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cosin", ["Did you mean 'cosine'?"]),
        ("cosine(flor=1)", ["'flor'", "Did you mean 'floor'?"]),
        ("cosine(floor=2)", ["floor=2", "0 <= floor <= 1"]),
        ("warmup(shape='liner')", ["Did you mean 'linear'?"]),
        ("warmup(0.02)", ["0.02", "'2%'"]),
        ("warmup('2 epoks')", ["epoks", "Did you mean"]),
        ("warmup(-5)", ["-5"]),
        ("warmup(shape='exponential')", ["start above 0"]),
        ("cosine(", ["not a schedule"]),
        ("__import__('os')", ["no schedule '__import__'"]),
        ("cosine().__class__", ["not allowed"]),
        ("cosine()()", ["not the name"]),
        ("[cosine for x in y]", ["not allowed"]),
        ("cosine(**{})", ["not allowed"]),
        ("cosine() + 1", ["not allowed"]),
        ("cosine(0, '2%', 3)", ["takes 2 parameters"]),
        ("cosine(0, floor=1)", ["given twice"]),
        ("'text'", ["not a schedule"]),
        ("(" * 3000, ["longest allowed"]),
        ("-" * 1500 + "1", ["not a schedule"]),
    ],
)
def test_what_is_not_a_schedule_is_refused_and_never_run(text, words):
    with pytest.raises((ArgumentError, HyperError)) as caught:
        parse(text)
    for word in words:
        assert word in str(caught.value)


def test_the_public_list_has_every_file_of_curves():
    assert set(makers()) <= set(schedules.__all__)
    for name in makers():
        assert getattr(schedules, name) is makers()[name]


def test_every_curve_names_its_source_and_has_a_symbolic_formula():
    for maker in makers().values():
        curve = vars(maker).get("curve")
        if curve is not None:
            assert curve.source
            assert curve.summary.endswith(".")
            assert latex(curve.formula(), curve.symbols())
        else:
            assert "Source: " in maker.__doc__


def test_a_plateau_multiplies_whatever_it_stands_beside():
    bound = (cosine() * plateau(0.5, patience=1, cooldown=1, floor=0.2)).bind(100)
    before = bound(40)
    assert [bound.report(m) for m in (1.0, 1.0, 1.0)] == [False, False, True]
    assert bound(40) == 0.5 * before
    saved = bound.state_dict()
    assert json.loads(json.dumps(saved)) == saved
    again = (cosine() * plateau(0.5, patience=1, cooldown=1, floor=0.2)).bind(100)
    again.load_state_dict(saved)
    assert again(40) == 0.5 * before
    for _ in range(20):
        bound.report(2.0)
    assert bound(0) == 0.2


def test_two_plateaus_and_reports_without_one_are_refused():
    with pytest.raises(ArgumentError, match="2 plateaus"):
        (plateau() * plateau()).bind(10)
    with pytest.raises(ArgumentError, match="no plateau"):
        cosine().bind(10).report(1.0)


def test_python_functions_compose_and_have_their_own_time():
    schedule = linear(0, 1, length=10) >> function(lambda step: 1 / (1 + step)) * 0.5
    bound = schedule.bind(3000)
    assert [bound(t) for t in (5, 10, 11, 2000, 3000, 4000)] == [
        0.5, 0.5, 0.25, 0.5 / 1991, 0.5 / 2991, 0.5 / 2991,
    ]  # fmt: skip


def test_a_run_without_an_end_needs_no_length():
    schedule = infinite(100, level=0.5, decay=1000)
    assert schedule.factor(10**9) == 0.5
    assert inverse_sqrt(100).factor(9900) == pytest.approx(0.1)


def test_one_cycle_refuses_a_rise_longer_than_itself():
    with pytest.raises(ArgumentError, match=r"up = 500 steps, but there are 400 \(100 too many\)"):
        one_cycle(500).bind(400)
    with pytest.raises(ArgumentError, match=r"2 \* up = 480"):
        one_cycle("60%", three_phase=True).bind(400)


def test_restarts_that_end_with_the_run_end_on_the_floor():
    for mult in (1, 2, 3):
        total = {1: 30, 2: 70, 3: 130}[mult]
        bound = cosine_restarts(10, mult, low=0.2).bind(total)
        assert bound(10) == 1
        assert bound(total) == pytest.approx(0.2)
        assert bound(total - 1) < 0.5


def test_batch_sizes_follow_a_schedule_in_whole_multiples():
    sizes = BatchSizes(linear(0, 1, length=50), 256, total_steps=100, multiple_of=8)
    seen = [sizes(step) for step in range(100)]
    assert all(size % 8 == 0 and size > 0 for size in seen)
    assert seen == sorted(seen)
    assert seen[50:] == [256] * 50
    assert [sizes.samples_before(step) for step in range(101)] == list(itertools.accumulate(seen, initial=0))
    assert [sizes.step_of(sizes.samples_before(step)) for step in range(100)] == list(range(100))
    with pytest.raises(ArgumentError, match="multiple of 8"):
        BatchSizes(constant(), 100, 10, multiple_of=8)
