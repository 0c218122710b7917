"""Lowering: numbers leave the loop, products meet sums, and the meaning stays."""

import pytest

from kudari.compile.expression import evaluate_scalar, walk
from kudari.compile.llvm import print_llvm
from kudari.compile.lower import contract, gather, hoist, lower, reciprocal
from kudari.compile.plan import CHUNK, make_plan
from kudari.compile.trace import trace
from kudari.rules.adam import adam
from kudari.rules.adamw import adamw
from kudari.rules.lion import lion
from kudari.rules.sgd import sgd

CONFIGS = [
    (adamw, {"amsgrad": False}),
    (adamw, {"amsgrad": True}),
    (adam, {"amsgrad": False, "decoupled_weight_decay": False}),
    (lion, {}),
    (sgd, {"momentum": 0.0, "nesterov": False}),
    (sgd, {"momentum": 0.9, "nesterov": True}),
]
NUMBERS = {"lr": 0.1, "betas[0]": 0.9, "betas[1]": 0.99, "eps": 1e-3, "weight_decay": 0.3, "momentum": 0.9,
           "dampening": 0.2, "t": 3.0}  # fmt: skip


def value_of(outputs, numbers):
    done = {}
    for item in walk(e for _, e in outputs):
        if item.op == "const":
            done[item] = item.value
        elif item.op in ("slot", "hyper"):
            done[item] = numbers[item.name]
        else:
            done[item] = evaluate_scalar(item.op, tuple(done[a] for a in item.args))
    return [done[e] for _, e in outputs]


@pytest.mark.parametrize(("rule", "config"), CONFIGS)
@pytest.mark.parametrize("t", [1.0, 3.0])
def test_every_pass_keeps_the_meaning(rule, config, t):
    traced = trace(rule, config)
    numbers = {**NUMBERS, "t": t, "p": 0.7, "g": -0.4, "m": 0.3, "v": 0.2, "x": 0.25, "b": -0.1}
    expected = value_of(traced.outputs, numbers)
    for change in (reciprocal, gather):
        assert value_of(change(traced.outputs), numbers) == pytest.approx(expected, rel=1e-14)
    scalars, body = contract(*hoist(gather(reciprocal(traced.outputs))))
    host = {f"s{i}": value_of([("", e)], numbers)[0] for i, e in enumerate(scalars)}
    assert value_of(body, {**numbers, **host}) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("rule", "config"), CONFIGS)
def test_nothing_that_is_equal_for_all_elements_stays_in_the_loop(rule, config):
    traced = trace(rule, config)
    program = lower(traced, dict.fromkeys(traced.slots, "f32"))
    for item in walk(e for _, e in program.outputs):
        if item.kind == "scalar":
            assert item.op in ("hyper", "const", "neg")
    assert all(e.kind == "scalar" for e in program.scalars)


def test_adamw_moves_28_bytes_and_lion_20():
    for rule, size in ((adamw, 28), (lion, 20)):
        traced = trace(rule, {"amsgrad": False})
        assert lower(traced, dict.fromkeys(traced.slots, "f32")).bytes_per_parameter == size


def test_the_fingerprint_sees_a_flipped_sign_and_a_changed_constant():
    def program(function):
        from kudari.compile.notation import rule as declare

        traced = trace(declare(name="X", source="a test")(function), {})
        return lower(traced, dict.fromkeys(traced.slots, "f32")).fingerprint

    from kudari.compile.notation import Step

    prints = {
        program(lambda p, g: Step(p=p - 0.1 * g)),
        program(lambda p, g: Step(p=p + 0.1 * g)),
        program(lambda p, g: Step(p=p - 0.1000000000000001 * g)),
    }
    assert len(prints) == 3
    assert program(lambda p, g: Step(p=p - 0.1 * g)) in prints


def test_the_printed_kernel_never_asks_for_reassociation():
    traced = trace(adamw, {"amsgrad": True})
    text = print_llvm(lower(traced, dict.fromkeys(traced.slots, "f32")), 8)
    for flag in ("fast", "reassoc", "nnan", "ninf", "arcp", "contract", "afn"):
        assert f" {flag} " not in text


def test_chunks_cover_every_element_once_whatever_the_sizes():
    sizes = [0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 0, 3 * CHUNK + 5]
    plan = make_plan(sizes)
    covered = {i: [] for i in range(len(sizes))}
    for tensor, first, end in plan.chunks.tolist():
        assert 0 < end - first <= CHUNK
        covered[tensor] += [(first, end)]
    for tensor, size in enumerate(sizes):
        borders = [0, *(end for _, end in covered[tensor])]
        assert [first for first, _ in covered[tensor]] == borders[:-1]
        assert borders[-1] == size
    assert plan.task_ends.tolist() == sorted(set(plan.task_ends.tolist()))
    assert plan.task_ends[-1] == len(plan.chunks)


def test_small_work_stays_on_one_thread():
    assert make_plan([9_610]).threads(8) == 1
    assert make_plan([4_000_000] * 4).threads(8) == 8
    assert make_plan([]).threads(8) == 1
