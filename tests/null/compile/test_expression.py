"""Expressions and the notation: what a formula may say, and what it is told when it says something else."""

import math
import subprocess
import sys

import pytest

from kudari.compile.expression import evaluate, frontier, hyper, node, slot, stage_value, substitute, walk
from kudari.compile.notation import Step, cos, ema, maximum, minimum, rule, sign, state, where
from kudari.compile.notation import hyper as number
from kudari.compile.trace import trace
from kudari.errors import RuleError

x, s, t = slot("x"), hyper("s"), hyper("t")


def test_equal_expressions_are_one_object():
    assert (x * s + 1) is (slot("x") * hyper("s") + 1)
    assert (x + s) is not (s + x)


def test_a_tensor_makes_everything_above_it_a_tensor_but_a_sum():
    assert (s + 1).kind == "scalar"
    assert (s * x).kind == "tensor"
    assert node("sum", x).kind == "scalar"


def test_minus_zero_and_nan_constants_stay_themselves():
    assert node("add", s, -0.0) is not node("add", s, 0.0)
    assert node("add", s, math.nan) is node("add", s, math.nan)


def test_an_expression_is_no_condition():
    with pytest.raises(RuleError, match=r"where\(condition, a, b\)"):
        if x > 0:
            pass


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        (1 - 0.9**t, 1 - 0.9**3),
        (minimum(t, 2) + maximum(t, 5), 7.0),
        (where(t <= 3, t, 10), 3.0),
        (where(t < 3, t, 10), 10.0),
        (sign(-t) + abs(-t), 2.0),
        (cos(t - 3), 1.0),
        (1 / (t - 3), math.inf),
        (-1 / (t - 3), -math.inf),
        (t**0.5, math.sqrt(3)),
        ((t - 3) ** -1, math.inf),
    ],
)
def test_scalar_expressions_are_evaluated_in_float64(expr, value):
    assert evaluate(expr, {"t": 3.0}) == value


@pytest.mark.parametrize(
    "expr", [(t - 3) / (t - 3), sign(t * math.nan), minimum(t, math.nan), (0 - t) ** 0.5]
)
def test_undefined_values_are_nan_and_not_an_exception(expr):
    assert math.isnan(evaluate(expr, {"t": 3.0}))


def test_text_has_the_parentheses_it_needs_and_no_more():
    assert str(x - (s - 1)) == "x - (s - 1)"
    assert str((x - s) - 1) == "x - s - 1"
    assert str((x + s) * s / (x * s)) == "(x + s)*s/(x*s)"
    assert str(ema(x, s, 0.5)) == "0.5*x + 0.5*s"


def test_substitute_replaces_every_occurrence():
    (found,) = substitute([x * s + x], {x: slot("y")})
    assert found is slot("y") * s + slot("y")


def make(function, **kw):
    return rule(name="Mine", source="a test", **kw)(function)


def test_a_rule_must_start_with_parameter_and_gradient():
    with pytest.raises(RuleError, match="first arguments of a rule are p"):
        make(lambda weights, grad: Step(p=weights))


def test_arguments_of_a_rule_must_be_declared():
    with pytest.raises(RuleError, match=r"m=state\('m'\)"):
        make(lambda p, g, m: Step(p=p))
    with pytest.raises(RuleError, match=r"lr=hyper"):
        make(lambda p, g, *, lr=0.1: Step(p=p))


def test_a_rule_that_is_to_count_steps_must_take_their_number():
    with pytest.raises(RuleError, match="does not take t"):
        make(lambda p, g: Step(p=p), counts=True)


def test_a_rule_that_writes_to_its_gradient_is_refused():
    with pytest.raises(RuleError, match="new value for g"):
        trace(make(lambda p, g: Step(p=p - g, g=-g)), {})


def test_the_frontier_is_what_is_left_when_what_is_known_has_a_place():
    y, z, norm = slot("y"), slot("z"), node("sum", x * s)
    known = {norm: hyper("#0"), x + y: slot("kept")}
    roots = [(x + y) * norm, z / norm + s]
    left = {e for e in walk(substitute(roots, known)) if not e.args}
    assert {known.get(e, e) for e in frontier(roots, known)} == left == {hyper("#0"), slot("kept"), z, s}


def test_the_frontier_does_not_look_into_stages():
    made = stage_value("turn", (x, s), 0)
    assert frontier([made * slot("y")], {}) == {made, slot("y")}


def test_a_forgotten_state_is_named():
    with pytest.raises(RuleError, match="never gives a new value to m"):
        trace(make(lambda p, g, m=state("exp_avg"): Step(p=p - m)), {})


def test_a_rule_must_return_a_step_with_known_names():
    with pytest.raises(RuleError, match="not a Step"):
        trace(make(lambda p, g: p - g), {})
    with pytest.raises(RuleError, match=r"its tensors are \['p'\]"):
        trace(make(lambda p, g: Step(p=p, q=g)), {})


def test_range_text_reads_like_mathematics():
    assert number(0.9, at_least=0, below=1).range_text("b") == "0 <= b < 1"
    assert number(0.9, above=0).range_text("b") == "b > 0"
    assert number(0.9, at_most=0).range_text("b") == "b <= 0"


def test_notation_rules_and_lowering_load_no_torch():
    code = "import sys, kudari.compile.llvm, kudari.rules.adamw; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_tracing_works_under_a_profiler():
    import cProfile

    found = cProfile.Profile().runcall(trace, make(lambda p, g: Step(p=p - g)), {})
    assert found.outputs[0][0] == "p"
