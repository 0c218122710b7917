"""Rules with more than one formula, numbers that are kept, and what is refused of them."""

import pytest

from kudari.compile.lower import lower
from kudari.compile.notation import Step, ema, hyper, rule, running, state
from kudari.compile.trace import trace
from kudari.errors import RuleError


def program(made, formula=""):
    traced = trace(made, {"lr": 0.1}, formula=formula)
    return lower(traced, dict.fromkeys(traced.slots, "f32"))


def test_a_formula_beside_the_step_reads_and_writes_only_what_it_names():
    def curvature(g, h):
        return Step(h=ema(h, g**2, 0.9))

    @rule(name="X", source="a test", formulas={"curvature": curvature})
    def x(p, g, h=state("hessian", changed_by="curvature"), *, t, lr=hyper(0.1)):
        return Step(p=p - lr * g / (h + 1))

    assert program(x).plan() == "p g h / p"
    assert program(x, "curvature").plan() == "g h / h"
    assert program(x).hypers == ("lr", "t")
    assert program(x, "curvature").hypers == ()


def test_numbers_of_a_tensor_and_of_a_group_are_no_arrays():
    @rule(name="X", source="a test")
    def x(p, g, M=state("product", scalar=True, init=1.0), *, lr=hyper(0.1), k=running(0)):
        return Step(p=p - lr * g / (M + k), M=M * lr, k=k + 1)

    found = program(x)
    assert found.plan() == "p g / p"
    assert [(name, str(expr)) for name, expr in found.cells] == [("M", "M*lr")]
    assert [(name, str(expr)) for name, expr in trace(x, {}).running] == [("k", "k + 1")]
    assert found.hypers == ("lr", "k")
    assert found.fingerprint != program_without_cells().fingerprint


def program_without_cells():
    @rule(name="X", source="a test")
    def x(p, g, M=state("product", scalar=True, init=1.0), *, lr=hyper(0.1), k=running(0)):
        return Step(p=p - lr * g / (M + k), M=M, k=k + 1)

    return program(x)


def test_a_number_cannot_be_given_a_value_for_every_element():
    @rule(name="X", source="a test")
    def x(p, g, M=state("product", scalar=True)):
        return Step(p=p - g, M=M * g)

    with pytest.raises(RuleError, match="gives M a value for every element"):
        trace(x, {})


def test_a_number_of_the_group_cannot_come_from_one_of_a_tensor():
    @rule(name="X", source="a test")
    def x(p, g, *, t, k=running(0)):
        return Step(p=p - g, k=k + t)

    with pytest.raises(RuleError, match="computes k, a number of the group"):
        trace(x, {})


def test_a_number_that_is_never_given_a_value_is_named():
    @rule(name="X", source="a test")
    def x(p, g, *, k=running(0)):
        return Step(p=p - g * k)

    with pytest.raises(RuleError, match="never gives a new value to k"):
        trace(x, {})


def test_a_state_that_another_formula_changes_may_be_left_alone_and_no_other():
    @rule(name="X", source="a test")
    def x(p, g, h=state("hessian")):
        return Step(p=p - g * h)

    with pytest.raises(RuleError, match="never gives a new value to h"):
        trace(x, {})
