"""What schedules say for themselves: their own text, and words for what goes wrong."""

import math

import pytest

from kudari.cli.main import main
from kudari.errors import ArgumentError, HyperError
from kudari.schedules import cosine, freeze, function, infinite, names, parse, plateau


@pytest.mark.parametrize("text", [*names(), "cooldown_from(cosine, 5, 2, total_steps=9)", "2 * plateau(0.5)"])
def test_a_schedule_shows_itself_as_it_is_written(text):
    schedule = parse(text)
    assert repr(schedule) == str(schedule)
    assert parse(repr(schedule)) == schedule


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: plateau("a"), "factor='a' is outside its range"),
        (lambda: plateau(patience=1.5), "patience=1.5 is outside its range.*whole"),
        (lambda: plateau(threshold=math.inf), "threshold=inf is outside"),
        (lambda: infinite(level="a"), "'a' is not a number"),
        (lambda: cosine(cosine()), r"floor=cosine\(\) is not a number"),
    ],
)
def test_what_is_no_number_is_refused_by_name(make, words):
    with pytest.raises(HyperError, match=words):
        make()


def test_a_checkpoint_of_a_run_of_unknown_length_asks_for_the_planned_one():
    with pytest.raises(ArgumentError, match=r"planned for another run.*Pass total_steps="):
        freeze(cosine(), 5).bind(15)
    assert freeze(cosine(), 5, total_steps=10).factor(15, total_steps=15) == pytest.approx(0.5, abs=1e-15)


def test_a_function_that_returns_no_number_is_named_with_the_step():
    with pytest.raises(ArgumentError, match="at step 3 the function returned None"):
        function(lambda step: None if step == 3 else 1.0).factor(0)
    with pytest.raises(ArgumentError, match="at step 2 the function returned 'x'"):
        function(lambda step: "x" if step == 2 else 1.0, cumulative=True).factor(5)


def test_a_percentage_without_quotes_is_pointed_at():
    with pytest.raises(ArgumentError, match="'2%' needs quotes"):
        parse("warmup(2%) >> cosine()")
    with pytest.raises(ArgumentError) as caught:
        parse("warmup('2%'")
    assert "quotes" not in str(caught.value)
    assert "unknown" not in str(caught.value)


def test_show_refuses_a_peak_that_is_no_rate(capsys):
    assert main(["schedule", "show", "cosine", "--lr", "nan"]) == 2
    assert "--lr nan is not above 0" in capsys.readouterr().err
