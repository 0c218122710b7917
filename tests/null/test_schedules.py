"""Schedules without torch: values, composition, lengths, texts."""

import itertools
import math
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kudari.compile.expression import evaluate
from kudari.errors import ArgumentError, HyperError
from kudari.schedules import constant, cosine, linear, names, parse, warmup


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
