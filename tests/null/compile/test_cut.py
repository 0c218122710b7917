"""Rules that call stages are cut there: what is stored when, what waits for what, and what is refused."""

import pytest

from kudari.compile.cut import Call, cut
from kudari.compile.lower import lower
from kudari.compile.notation import Step, factors, hyper, mean, model_sum, rule, state
from kudari.compile.stage import Stage
from kudari.compile.trace import trace
from kudari.errors import RuleError

turn = Stage("turn", lambda works: [(w.values[0],) for w in works], values=("x", "Q"))
renew = Stage("renew", lambda works: [(w.values[0],) for w in works], values=("Q", "x"))
twist = Stage("twist", lambda works: [(w.values[0],) for w in works], values=("x",), numbers=("by",))
Q = factors("Q", lambda shape, group: shape)


def plans(function):
    traced = trace(rule(name="X", source="a test")(function), {"lr": 0.1})
    return [
        str(piece) if isinstance(piece, Call) else lower(piece, dict.fromkeys(piece.slots, "f32")).plan()
        for piece in cut(traced)
    ]


def test_what_a_stage_reads_is_stored_before_it_and_a_state_lies_in_its_own_slot():
    def x(p, g, m=state("m"), *, lr=hyper(0.1)):
        m_t = m + g
        o = twist(m_t, by=2)
        return Step(p=p - lr * o, m=m_t)

    assert plans(x) == ["g m / m", "twist m -> o", "p o / p"]


def test_a_gradient_as_it_is_needs_no_temporary_and_a_changed_one_does():
    assert plans(lambda p, g: Step(p=p - twist(g, by=1))) == ["twist g -> x", "p x / p"]
    assert plans(lambda p, g: Step(p=p - twist(-g, by=1))) == ["g / x", "twist x -> x'", "p x' / p"]


def test_a_list_is_changed_after_all_have_read_it():
    def x(p, g, Q=Q):
        u = turn(g, Q)
        w = turn(u * 2, Q)
        return Step(p=p - w, Q=renew(Q, g))

    found = plans(x)
    assert found.index("renew Q g -> Q") > found.index("turn x Q -> w") > found.index("turn g Q -> u")


def test_sums_over_the_model_come_first_and_sums_over_a_tensor_where_they_are_used():
    def x(p, g):
        o = twist(g / model_sum(g * g), by=1)
        return Step(p=p - o / mean(o))

    assert plans(x) == ["g / -", "g / x", "twist x -> o", "o / -; then p o / p"]


def test_an_old_value_that_a_stage_has_to_lie_over_is_refused():
    def x(p, g, m=state("m")):
        return Step(p=p - twist(m + g, by=1) * m, m=m + g)

    with pytest.raises(RuleError, match="after a stage or a pass has overwritten it"):
        plans(x)


def test_stages_that_wait_for_each_other_are_refused():
    def x(p, g, Q=Q):
        return Step(p=p - turn(g * 2, renew(Q, g)) - turn(turn(g, renew(Q, g)), Q), Q=renew(Q, g))

    with pytest.raises(RuleError, match="wait for each other"):
        plans(x)


def test_lists_of_matrices_are_for_stages_alone():
    with pytest.raises(RuleError, match="a list of matrices"):
        plans(lambda p, g, Q=Q: Step(p=p - Q * g, Q=Q))
    with pytest.raises(RuleError, match="gives Q, which is factors"):
        plans(lambda p, g, Q=Q: Step(p=p - g, Q=g))
    with pytest.raises(RuleError, match="a number that is a sum"):
        plans(lambda p, g: Step(p=p - twist(g, by=mean(g))))
    with pytest.raises(RuleError, match=r"It takes twist\(x, by=...\)"):
        plans(lambda p, g: Step(p=p - twist(g)))
