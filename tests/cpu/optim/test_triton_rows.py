"""GPU kernels that go by rows and over every k-th element, in Triton's interpreter, and the CPU kernels."""

import copy

import numpy as np
import pytest
import torch

import kudari.optim
from kudari.compile import gpu
from kudari.compile.gpu import GpuKernel, compile_gpu
from kudari.compile.notation import State, Step, column_mean, hyper, maximum, model_sum, row_mean, rule
from kudari.compile.triton.tiles import make_tile_plan, tile_of
from kudari.optim import backends, make_class
from kudari.optim.gpu_binding import GpuBinding
from kudari.testing.rule_exam import CHECKS, Bounds, WholeModel, check_rule
from tests import oracle
from tests.cpu.optim.conftest import build, gradients, start
from tests.cpu.optim.interpreted import (
    assert_near,
    bind_blocks_of,
    bindings,
    both,
    interpreter,
    needs_triton,
    on_gpu,
    without_gpu,
)

__all__ = ["interpreter", "on_gpu"]

BLOCK = 64  # tiles of 8 by 8 where a matrix is large
# One element, a row, a column, less than a tile, several tiles each way, the widths around one and two, and
# more lines than one program computes the numbers of.
MATRICES = [(1, 1), (1, 19), (19, 1), (3, 5), (9, 7), (9, 8), (8, 9), (5, 15), (17, 16), (130, 2)]
# Many small matrices, in kernels of 3 by 3 and of 1 by 1; a few large ones; none.
BATCHES = [(5, 4, 3, 3), (7, 3, 1, 1), (3, 10, 9), (0, 3)]
# Elements: around 11, and around 11 times a block.
SLICED = [(1,), (10,), (11,), (12,), (64 * 11 - 1,), (64 * 11,), (64 * 11 + 1,), (13, 17)]
ROWS = ("Adafactor", {"lr": 0.1, "weight_decay": 0.1, "d": 1.5})
SLICES = ("Prodigy", {"d0": 1e-2, "slice_p": 11, "weight_decay": 0.1})


# As in test_triton.py: b**t is exp(t*log(b)) on the device, and sums are added up in another order.
@needs_triton
@pytest.mark.parametrize("case", [(ROWS, MATRICES + BATCHES), (SLICES, SLICED)], ids=["rows", "slices"])
def test_every_shape_takes_the_step_of_the_cpu_kernel(case, on_gpu):
    how, shapes = case
    assert_near(*both(*how, 1, torch.float64, shapes), close=2e-12, steps=1)


@needs_triton
@pytest.mark.parametrize("case", [(ROWS, [(17, 9), (4, 3, 3)]), (SLICES, SLICED)], ids=["rows", "slices"])
def test_float32_is_within_1e5_of_the_cpu_kernel(case, on_gpu):
    how, shapes = case
    assert_near(*both(*how, 2, torch.float32, shapes), close=1e-5, steps=2)


@needs_triton
def test_a_matrix_of_many_larger_tiles_takes_the_step_of_the_cpu_kernel(on_gpu, monkeypatch):
    monkeypatch.setitem(backends.BACKENDS, "cpu", bind_blocks_of(256))
    assert_near(*both(*ROWS, 1, torch.float32, [(64, 64)]), close=1e-5, steps=1)


def whole_gradients(step, shapes):
    """Whole numbers below 8: sums of their squares are exact in float32, in whatever order."""
    gen = torch.Generator().manual_seed(step)
    return [torch.randint(-7, 8, s, generator=gen).float() for s in shapes]


def whole_run(make, shapes, dtype=torch.float32, steps=2):
    """Parameters and states after steps along whole gradients."""
    params = [torch.nn.Parameter(torch.ones(s, dtype=dtype)) for s in shapes]
    optimizer = make(params)
    torch.manual_seed(5)
    for step in range(steps):
        for p, g in zip(params, whole_gradients(step, shapes), strict=True):
            p.grad = g.to(dtype)
        optimizer.step()
    return {i: dict(optimizer.state[p]) | {"p": p.detach()} for i, p in enumerate(params)}, optimizer


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_sums_are_exact_row_and_column_states_have_the_bits_of_the_cpu_kernel(dtype, on_gpu):
    shapes = [(20, 10), (5, 2, 3, 3)]

    def make(params):
        return kudari.optim.Adafactor(params, lr=0.1)

    found, optimizer = whole_run(make, shapes, dtype)
    assert all(isinstance(b, GpuBinding) for b in bindings(optimizer))
    expected, _ = without_gpu(lambda: whole_run(make, shapes, dtype))
    for i in range(len(shapes)):
        for key in ("row_var", "col_var"):
            assert torch.equal(found[i][key], expected[i][key])


@needs_triton
def test_what_needs_no_sum_has_the_bits_of_the_cpu_kernel_in_sliced_states_too(on_gpu):
    def make(params):
        return kudari.optim.Prodigy(params, d0=1e-2, slice_p=11)

    found, optimizer = whole_run(make, SLICED, steps=1)
    assert all(isinstance(b, GpuBinding) for b in bindings(optimizer))
    expected, _ = without_gpu(lambda: whole_run(make, SLICED, steps=1))
    for i in range(len(SLICED)):
        for key in ("s", "p0", "exp_avg", "exp_avg_sq"):
            assert torch.equal(found[i][key], expected[i][key])


@rule(name="Balanced", source="a test")
def balanced(
    p,
    g,
    R=State("r", shape="rows", full_precision=True),
    C=State("c", shape="columns", full_precision=True),
    *,
    lr=hyper(0.5),
):
    """Sums of all kinds, over both kinds of lines; of whole numbers, by powers of two, all are exact."""
    R_t = 0.5 * R + row_mean(g**2)
    C_t = 0.5 * C + column_mean(g**2)
    u = maximum(R_t, C_t) * g - column_mean(R_t) * g + row_mean(C_t) * abs(g)
    return Step(p=p - lr * u / model_sum(abs(g)), R=R_t, C=C_t)


@needs_triton
@pytest.mark.parametrize(
    ("dtype", "rounding"),
    [(torch.float32, "nearest"), (torch.bfloat16, "stochastic")],
)
def test_sums_over_both_kinds_of_lines_and_draws_have_the_bits_of_the_cpu_kernel(dtype, rounding, on_gpu):
    shapes = [(16, 16), (6, 4, 2), (128, 1), (1, 128)]  # the last two in several programs between passes

    def make(params):
        return make_class(balanced)(params, rounding=rounding)

    found, optimizer = whole_run(make, shapes, dtype)
    assert all(isinstance(b, GpuBinding) for b in bindings(optimizer))
    expected, _ = without_gpu(lambda: whole_run(make, shapes, dtype))
    for i in range(len(shapes)):
        assert found[i].keys() == expected[i].keys()
        assert all(torch.equal(found[i][key], expected[i][key]) for key in found[i])


@needs_triton
@pytest.mark.parametrize(
    ("case", "shapes"), [(ROWS, [(9, 9), (4, 3, 3), (2, 7)]), (SLICES, SLICED[6:])], ids=["rows", "slices"]
)
def test_the_bits_of_a_tensor_do_not_depend_on_the_others_in_its_launch(case, shapes, on_gpu):
    name, kw = case
    # One estimate for the model would tie the tensors together.
    states = ("row_var", "col_var") if name == "Adafactor" else ("s", "p0")

    def run(chosen):
        params = start(torch.float32, shapes)
        optimizer = build(name, [params[i] for i in chosen], **kw)
        grads = gradients(0, torch.float32, shapes)
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer.step()
        return {i: [optimizer.state[params[i]][k] for k in states] + [params[i].detach()] for i in chosen}

    together, turned = run(range(len(shapes))), run(range(len(shapes))[::-1])
    for i in range(len(shapes)):
        alone = run([i])[i]
        count = len(states) + (name == "Adafactor")
        assert all(map(torch.equal, alone[:count], together[i]))
        assert all(map(torch.equal, alone[:count], turned[i]))


@needs_triton
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", [ROWS, SLICES], ids=["rows", "slices"])
def test_low_precision_parameters_are_updated_in_float32_and_rounded_once(case, dtype, on_gpu):
    name, kw = case
    kw = {"eps": (1e-7, 1e-3), **kw} if name == "Adafactor" else kw  # by default that of the dtype
    p = start(dtype, [(9, 17)])[0]
    wide = torch.nn.Parameter(p.detach().float())
    g = gradients(0, dtype, [(9, 17)])[0].clamp(-8, 8)
    p.grad, wide.grad = g, g.float()
    for q in (p, wide):
        optimizer = build(name, [q], **kw)
        optimizer.step()
        assert isinstance(bindings(optimizer)[0], GpuBinding)
    assert torch.equal(p.detach(), wide.detach().to(dtype))


@needs_triton
@pytest.mark.parametrize("case", [ROWS, SLICES], ids=["rows", "slices"])
@pytest.mark.parametrize("layout", ["transposed", "offset by one element"])
def test_same_bits_for_any_strides_and_addresses(layout, case, on_gpu):
    name, kw = case

    def change(x):
        return (
            x.t().contiguous().t()
            if layout == "transposed"
            else torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape)
        )

    plain = start(torch.float32, [(9, 16)])[0]
    other = torch.nn.Parameter(change(plain.detach().clone()))
    first, second = (build(name, [p], **kw) for p in (plain, other))
    for step in range(2):
        plain.grad = gradients(step, torch.float32, [(9, 16)])[0]
        other.grad = change(plain.grad)
        first.step()
        second.step()
    assert torch.equal(plain.detach(), other.detach())
    assert bindings(first)[0].aligned
    assert bindings(second)[0].aligned is (layout == "transposed")  # which goes through an aligned copy


@needs_triton
def test_a_nan_stays_in_its_own_matrix_and_tensor(on_gpu):
    params = [torch.nn.Parameter(torch.ones(s)) for s in [(2, 9, 9), (9, 9)]]
    for p in params:
        p.grad = torch.ones_like(p)
    params[0].grad[1, 3, 4] = torch.nan
    optimizer = kudari.optim.Adafactor(params)
    optimizer.step()
    assert params[1].detach().isfinite().all()
    row, column = (optimizer.state[params[0]][key].isnan() for key in ("row_var", "col_var"))
    assert row.nonzero().tolist() == [[1, 3, 0]] and column.nonzero().tolist() == [[1, 0, 4]]


@needs_triton
@pytest.mark.parametrize("case", [ROWS, SLICES], ids=["rows", "slices"])
def test_checkpoints_go_from_one_kernel_to_the_other(case, on_gpu):
    name, kw = case
    shapes = [(9, 7), (3, 3, 3)]
    params = start(torch.float64, shapes)
    first = build(name, params, **kw)

    def go_on(optimizer, step):
        params = optimizer.param_groups[0]["params"]
        for p, g in zip(params, gradients(step, torch.float64, shapes), strict=True):
            p.grad = g
        optimizer.step()
        return [p.detach().clone() for p in params]

    middle, saved = go_on(first, 0), copy.deepcopy(first.state_dict())
    expected = go_on(first, 1)

    def again():
        second = build(name, [torch.nn.Parameter(p.clone()) for p in middle], **kw)
        second.load_state_dict(copy.deepcopy(saved))
        return go_on(second, 1)

    assert all(map(torch.equal, again(), expected))
    for a, b in zip(without_gpu(again), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.fixture
def launched(monkeypatch):
    """Kinds of launches, with the addresses of their arguments, in order; nothing is run."""
    seen = []

    def note(kind):
        def launch(self, *args):
            given = next(a for a in args if isinstance(a, tuple))
            seen.append((kind, *(x.data_ptr() for x in given[:-1])))

        return launch

    for kind in ("numbers", "vectors", "tiles", "fold", "elements", "sums"):
        monkeypatch.setattr(GpuKernel, kind, note(kind))
    return seen


def step_with(optimizer, shapes, number):
    for p, g in zip(
        optimizer.param_groups[0]["params"], gradients(number, torch.float32, shapes), strict=True
    ):
        p.grad = g
    optimizer.step()


@needs_triton
@pytest.mark.parametrize("count", [1, 5])
def test_launches_depend_on_the_shapes_of_tiles_and_not_on_the_number_of_tensors(count, on_gpu, launched):
    by_rows = ["numbers", "tiles", "fold", "sums"]
    by_rows += ["numbers", "vectors", "vectors", "tiles", "sums", "numbers", "tiles"]
    two_shapes = [k for kind in by_rows for k in [kind] * (1 + (kind in ("tiles", "vectors")))]
    sliced = ["numbers", "elements", "sums", "numbers", "elements"]
    for (name, kw), shapes, expected in (
        (ROWS, [(17, 9)] * count, by_rows),
        (ROWS, [(17, 9), (4, 3, 3)] * count, two_shapes),
        (SLICES, [(17, 9)] * count, sliced),
    ):
        optimizer = build(name, start(torch.float32, shapes), **kw)
        step_with(optimizer, shapes, 0)
        launched.clear()
        step_with(optimizer, shapes, 1)
        assert [kind for kind, *_ in launched] == expected


@needs_triton
@pytest.mark.parametrize("case", [ROWS, SLICES], ids=["rows", "slices"])
def test_a_new_learning_rate_prints_nothing_and_launches_with_the_same_addresses(
    case, on_gpu, launched, monkeypatch
):
    name, kw = case
    optimizer = build(name, start(torch.float32, [(9, 9)]), **kw)
    step_with(optimizer, [(9, 9)], 0)
    launched.clear()
    step_with(optimizer, [(9, 9)], 1)
    before = list(launched)
    monkeypatch.setattr(gpu, "print_triton", lambda program: pytest.fail("printed again"))
    compile_gpu.cache_clear()
    launched.clear()
    optimizer.param_groups[0]["lr"] = 0.25
    step_with(optimizer, [(9, 9)], 2)
    assert launched == before


ORACLES = {"Adafactor": oracle.ORACLES["Adafactor"], "Prodigy": WholeModel(oracle.prodigy)}
EXAM = {  # as in test_exam.py
    "Adafactor": ({"lr": 0.1, "eps": (1e-7, 1e-3), "weight_decay": 0.1}, Bounds(float64=1e-12)),
    "Prodigy": ({"d0": 1e-3, "slice_p": 11}, Bounds(float64=1e-12, float32=1e-3)),
}


@needs_triton
@pytest.mark.parametrize("name", EXAM)
def test_the_exam_takes_these_steps_in_gpu_kernels(name, interpreter, monkeypatch):
    case, bounds = EXAM[name]
    kind = "tiles" if name == "Adafactor" else "elements"
    asked, right = ("oracle", "backends", "low-precision"), getattr(GpuKernel, kind)
    taken = []
    monkeypatch.setattr(GpuKernel, kind, lambda *args: taken.append(args) or right(*args))
    claims = check_rule(
        getattr(kudari.optim, name),
        oracle=ORACLES[name],
        cases=(case,),
        bounds=bounds,
        without=[claim for claim in CHECKS if claim not in asked],
    )
    assert [claim.name for claim in claims] == list(asked) and taken


# --- plans


@pytest.mark.parametrize("block", [16, 64, 256, 2048])
def test_tiles_have_the_size_of_a_block_and_lines_fit_where_they_are_taken_at_once(block):
    for rows in (1, 2, 3, 4, 5, 16, 17, 100, 5000):
        for columns in (1, 3, 4, 7, 16, 17, 63, 64, 65, 5000):
            tile = tile_of((3, rows, columns), block)
            assert tile.matrices * tile.rows * tile.columns == block
            assert tile.matrices == 1 or tile.rows >= rows
            assert tile.high >= min(rows, block) and tile.wide >= min(columns, block)
            assert tile.together * max(tile.high, tile.wide) == block
            assert tile.together == 1 or tile.groups((3, rows, columns)) == -(-3 // tile.together)


def test_every_element_is_in_exactly_one_tile():
    shapes = [(3, 5, 4), (1, 20, 33), (9, 2, 2), (2, 1, 1), (0, 4, 4)]
    plan = make_tile_plan(shapes, 16)
    seen = [np.zeros(s, dtype=int) for s in shapes]
    for launch in plan.launches:
        tile = launch.tile
        for tensor, number in launch.tiles:
            _, down, across = tile.grid(shapes[tensor])
            m, r, c = number // across // down, number // across % down, number % across
            cut = (
                slice(k * n, (k + 1) * n)
                for k, n in zip((m, r, c), (tile.matrices, tile.rows, tile.columns), strict=True)
            )
            seen[tensor][tuple(cut)] += 1
    assert all((s == 1).all() for s in seen)
    assert sorted(
        int(i) for launch in plan.launches for i in plan.firsts[launch.tiles[:, 0]] + launch.tiles[:, 1]
    ) == list(range(plan.firsts[-1]))


def test_sums_of_tiles_take_a_few_per_cent_of_a_large_matrix():
    plan = make_tile_plan([(1, 4096, 4096)], 2048)
    room = plan.room("rows") + plan.room("columns")
    assert room.sum() < 0.05 * 4096 * 4096
