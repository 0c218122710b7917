"""Lowering: numbers leave the loop, products meet sums, and the meaning stays."""

import pytest

from kudari.compile.expression import evaluate_scalar, walk
from kudari.compile.llvm import print_llvm
from kudari.compile.lower import bottom_up, contract, gather, hoist, lower, reciprocal
from kudari.compile.notation import Step, ema, hyper, maximum, mean, norm, rule, sqrt, state
from kudari.compile.plan import CHUNK, make_plan
from kudari.compile.trace import trace
from kudari.rules.adam import adam
from kudari.rules.adamw import adamw
from kudari.rules.lion import lion
from kudari.rules.sgd import sgd

CONFIGS = [
    (adamw, {"amsgrad": False, "cautious": False}),
    (adamw, {"amsgrad": True, "cautious": False}),
    (adam, {"amsgrad": False, "decoupled_weight_decay": False, "cautious": False}),
    (lion, {"cautious": False}),
    (sgd, {"momentum": 0.0, "nesterov": False, "cautious": False}),
    (sgd, {"momentum": 0.9, "nesterov": True, "cautious": False}),
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


@pytest.mark.parametrize(("optimizer", "config"), CONFIGS)
@pytest.mark.parametrize("t", [1.0, 3.0])
def test_every_pass_keeps_the_meaning(optimizer, config, t):
    traced = trace(optimizer, config)
    numbers = {**NUMBERS, "t": t, "p": 0.7, "g": -0.4, "m": 0.3, "v": 0.2, "x": 0.25, "b": -0.1}
    expected = value_of(traced.outputs, numbers)
    for change in (reciprocal, gather):
        assert value_of(bottom_up(traced.outputs, change), numbers) == pytest.approx(expected, rel=1e-14)
    changed = bottom_up(traced.outputs, lambda item: gather(reciprocal(item)))
    scalars, body = contract(*hoist(changed))
    host = {f"s{i}": value_of([("", e)], numbers)[0] for i, e in enumerate(scalars)}
    assert value_of(body, {**numbers, **host}) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("optimizer", "config"), CONFIGS)
def test_nothing_that_is_equal_for_all_elements_stays_in_the_loop(optimizer, config):
    traced = trace(optimizer, config)
    program = lower(traced, dict.fromkeys(traced.slots, "f32"))
    (only,) = program.passes
    for item in walk(only.roots):
        if item.kind == "scalar":
            assert item.op in ("hyper", "const", "neg")
    assert all(e.kind == "scalar" for e in only.scalars)


@pytest.mark.parametrize(("optimizer", "config"), CONFIGS)
def test_simplifying_node_by_node_is_simplifying_one_way_after_the_other(optimizer, config):
    outputs = trace(optimizer, config).outputs
    one_walk = bottom_up(outputs, lambda item: gather(reciprocal(item)))
    assert one_walk == bottom_up(bottom_up(outputs, reciprocal), gather)


def test_adamw_moves_28_bytes_and_lion_20():
    for optimizer, size in ((adamw, 28), (lion, 20)):
        traced = trace(optimizer, {"amsgrad": False, "cautious": False})
        assert lower(traced, dict.fromkeys(traced.slots, "f32")).bytes_per_parameter == size


def test_the_fingerprint_sees_a_flipped_sign_and_a_changed_constant():
    def program(function):
        traced = declare(function)
        return lower(traced, dict.fromkeys(traced.slots, "f32")).fingerprint

    prints = {
        program(lambda p, g: Step(p=p - 0.1 * g)),
        program(lambda p, g: Step(p=p + 0.1 * g)),
        program(lambda p, g: Step(p=p - 0.1000000000000001 * g)),
    }
    assert len(prints) == 3
    assert program(lambda p, g: Step(p=p - 0.1 * g)) in prints


def test_the_printed_kernel_never_asks_for_reassociation():
    traced = trace(adamw, {"amsgrad": True, "cautious": False})
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
    assert make_plan([9_610]).threads(8, work=28) == 1
    assert make_plan([4_000_000] * 4).threads(8, work=28) == 8
    assert make_plan([]).threads(8, work=28) == 1


def declare(function, name="Mine"):
    return trace(rule(name=name, source="a test")(function), {})


def lamb(p, g, m=state("m"), v=state("v"), *, lr=hyper(0.1), b=hyper(0.9), wd=hyper(0.1)):
    m_t, v_t = ema(m, g, b), ema(v, g**2, b)
    u = m_t / sqrt(v_t) + wd * p
    return Step(p=p - lr * norm(p) / norm(u) * u, m=m_t, v=v_t)


def stable(p, g, m=state("m"), v=state("v"), *, lr=hyper(0.1), b=hyper(0.9)):
    m_t, v_t = ema(m, g, b), ema(v, g**2, b)
    k = lr / maximum(1, sqrt(mean(g**2 / v_t)))
    return Step(p=p - k * m_t / sqrt(v_t), m=m_t, v=v_t)


def twice(p, g, *, lr=hyper(0.1)):
    centred = g - mean(g)
    return Step(p=p - lr * centred / norm(centred))


@pytest.mark.parametrize(
    ("function", "plan", "size"),
    [
        (lamb, "p g m v / m v; then p m v / p", 40),
        (stable, "g v / -; then p g m v / p m v", 36),
        (twice, "g / -; then g / -; then p g / p", 20),
    ],
)
def test_sums_cut_the_work_into_the_passes_that_move_the_fewest_bytes(function, plan, size):
    traced = declare(function)
    program = lower(traced, dict.fromkeys(traced.slots, "f32"))
    assert (program.plan(), program.bytes_per_parameter) == (plan, size)


def test_a_pass_never_reads_what_an_earlier_one_has_overwritten():
    def needs_old(p, g, m=state("m"), *, lr=hyper(0.1)):
        return Step(p=p - lr * (g - m) / norm(g - m), m=g)

    traced = declare(needs_old)
    program = lower(traced, dict.fromkeys(traced.slots, "f32"))
    first, second = program.passes
    assert first.writes == ()
    assert set(second.writes) == {"p", "m"}
