"""The exam itself is examined: each culprit fails, and for the right reason."""

import math
import random
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest

from kudari.compile.notation import cos, log
from kudari.errors import ArgumentError
from kudari.schedules import Schedule, attach, bound, constant, cosine, curve, function, parse, wsd
from kudari.schedules.curve import length, number
from kudari.testing.schedule_exam import ScheduleExamError, check_schedule


def failed(schedule, **kwargs):
    with pytest.raises(ScheduleExamError) as caught:
        check_schedule(schedule, totals=(10, 97), **kwargs)
    return {claim.name for claim in caught.value.claims if not claim.passed}


@dataclass(frozen=True)
class Culprit(Schedule):
    """A schedule by hand, that can get wrong what curves cannot."""

    def steps(self, run):
        return None

    def __str__(self):
        return "cosine()"


@curve(source="a culprit")
def negative(t, T, *, length=length(None)):
    return 1 - 2 * t / T


@curve(source="a culprit")
def undefined_at_zero(t, T, *, length=length(None)):
    return log(t) * 0


@curve(source="a culprit")
def dice(t, T, *, length=length(None)):
    return t / T + random.random()


@curve(source="a culprit")
def flipped(t, T, floor=number(0.1), *, length=length(None)):
    return floor + (1 - floor) * (1 - cos(math.pi * t / T)) / 2


@curve(source="a culprit")
def late(t, T, floor=number(0.1), *, length=length(None)):
    return floor + (1 - floor) * (1 - t / (T + 2))


def test_a_negative_factor_is_found():
    assert failed(negative()) == {"finite"}


def test_a_factor_that_is_not_a_number_is_found():
    assert failed(undefined_at_zero()) == {"finite"}


def test_a_schedule_that_is_not_a_function_of_the_step_is_found():
    assert "pure" in failed(dice())


def test_a_flipped_sign_is_found_by_the_second_formula():
    def reference(t, total):
        return 0.1 + 0.9 * (1 + math.cos(math.pi * t / total)) / 2

    assert failed(flipped(), reference=reference) == {"reference"}
    check_schedule(cosine(floor=0.1), totals=(10, 97), reference=reference)


def test_a_floor_that_is_not_reached_is_found():
    assert failed(late(), ends_at=0.1) == {"ends-at"}
    check_schedule(wsd(floor=0.1), totals=(10, 97), ends_at=0.1)


def test_a_curve_that_rises_again_past_the_end_is_found():
    class Rebound(Culprit):
        def expression(self, t, window):
            return (1 + cos(math.pi * t / window.steps)) / 2

    assert {"holds"} <= failed(Rebound()) <= {"holds", "text"}


def test_a_schedule_that_looks_at_the_whole_run_from_inside_a_sequence_is_found():
    class Global(Culprit):
        def expression(self, t, window):
            return cosine().expression(t, replace(window, steps=window.run.total_steps))

    assert {"local-time"} <= failed(Global()) <= {"local-time", "text"}


def test_a_text_that_forgets_a_parameter_is_found():
    @dataclass(frozen=True)
    class Forgetful(Culprit):
        level: float = 0.5

        def expression(self, t, window):
            return constant(self.level).expression(t, window)

        def __str__(self):
            return "constant()"

    assert failed(Forgetful()) == {"text"}


def test_a_length_that_overruns_its_window_is_found():
    class Endless(Culprit):
        def steps(self, run):
            return Fraction(10**6)

        def expression(self, t, window):
            return cosine().expression(t, window)

    assert "finite" in failed(Endless())


def test_a_table_that_computes_something_else_than_the_expression_is_found(monkeypatch):
    monkeypatch.setitem(bound._MANY, "cos", np.sin)
    assert "expression" in failed(cosine(0.1))


def test_a_scheduler_that_steps_in_its_constructor_is_found(monkeypatch):
    right = attach.ScheduleLR.__init__

    def wrong(self, *args, **kwargs):
        right(self, *args, **kwargs)
        self.set_step(1)

    monkeypatch.setattr(attach.ScheduleLR, "__init__", wrong)
    assert failed(cosine()) == {"attach"}


def test_a_scheduler_that_does_not_restore_the_rate_is_found(monkeypatch):
    def wrong(self, state):
        self.last_epoch = state["last_epoch"]

    monkeypatch.setattr(attach.ScheduleLR, "load_state_dict", wrong)
    assert failed(cosine()) == {"attach"}


def test_the_fault_names_the_first_counterexample():
    with pytest.raises(ScheduleExamError, match=r"finite: factor\(6, total_steps=10\)"):
        check_schedule(negative(), totals=(10,))


def test_a_schedule_that_raises_fails_and_says_with_what():
    with pytest.raises(ScheduleExamError) as caught:
        check_schedule(function(lambda step: 1 / step))
    failed = {claim.name: claim.detail for claim in caught.value.claims if not claim.passed}
    assert failed["finite"] == "ZeroDivisionError: division by zero"


def test_what_is_no_schedule_and_no_run_at_all_are_refused():
    assert check_schedule("cosine") == check_schedule(parse("cosine"))
    with pytest.raises(ArgumentError, match="is not a schedule"):
        check_schedule(None)
    with pytest.raises(ArgumentError, match="no length of a run"):
        check_schedule("cosine", totals=())
