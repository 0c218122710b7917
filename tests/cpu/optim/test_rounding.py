"""What a 16-bit parameter keeps of its steps, and what a step does when gradients are not finite."""

import copy

import pytest
import torch

import kudari.optim
from tests.cpu.optim.conftest import build, gradients, start
from tests.cpu.optim.test_codecs import normal, run

SHORT = [torch.bfloat16, torch.float16]
UNIT = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}  # of numbers from 1 to 2


def tiny_steps(dtype, rounding, steps=400, **kw):
    """1.25 with steps of a hundredth of a unit, exactly and as rounded."""
    p = torch.nn.Parameter(torch.full((4, 300), 1.25, dtype=dtype))
    optimizer = build("SGD", [p], lr=UNIT[dtype] / 100, rounding=rounding, **kw)
    exact = torch.full((1,), 1.25, dtype=torch.float64)
    decay = kw.get("weight_decay", 0.0)
    for _ in range(steps):
        p.grad = torch.ones_like(p)
        optimizer.step()
        exact -= UNIT[dtype] / 100 * (1 + decay * exact)
    return p.detach().double(), exact, optimizer


@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize("kw", [{}, {"weight_decay": 0.5}], ids=["plain", "decay"])
def test_kahan_stays_within_a_unit_of_the_exact_trajectory(dtype, kw):
    p, exact, optimizer = tiny_steps(dtype, "kahan", **kw)
    assert (p - exact).abs().max() <= UNIT[dtype]
    comp = optimizer.state[optimizer.param_groups[0]["params"][0]]["kahan_comp"]
    assert comp.dtype is dtype
    assert (p + comp.double() - exact).abs().max() <= UNIT[dtype] / 10
    nearest, _, _ = tiny_steps(dtype, "nearest", **kw)
    assert (nearest == 1.25).all()  # without it, nothing moves at all


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_decay_alone_survives_kahan(dtype):
    p = torch.nn.Parameter(torch.full((300,), 1.5, dtype=dtype))
    optimizer = build("AdamW", [p], lr=1e-3, weight_decay=0.02, rounding="kahan")
    for _ in range(500):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    assert (p.double() - 1.5 * (1 - 2e-5) ** 500).abs().max() <= UNIT[dtype]


def wide_twin(p, name, optimizer, **kw):
    """The same state in float32, where the parameter is all that the short one stands for."""
    full = p.detach().float() + optimizer.state[p]["kahan_comp"].float()
    twin = build(name, [torch.nn.Parameter(full)], **kw)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return twin


@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize(
    ("name", "kw", "seen"),
    [
        # The initial values, of which the distance is measured, are those of before the first rounding.
        ("Prodigy", {"d0": 1e-4, "growth_rate": 1.5}, lambda o, _: o.param_groups[0]["d_numerator"]),
        ("Shampoo", {"decoupled_weight_decay": False, "weight_decay": 1.0}, lambda o, s: s["factors"][0]),
    ],
    ids=["Prodigy", "Shampoo"],
)
def test_sums_and_factors_read_what_kahan_has_kept(name, kw, seen, dtype):
    p = torch.nn.Parameter(1 + torch.rand(20, 30, generator=torch.Generator().manual_seed(0)).to(dtype))
    g = normal(20, 30, seed=1).abs().to(dtype)
    optimizer = build(name, [p], rounding="kahan", **kw)
    for _ in range(3):
        p.grad = g
        optimizer.step()
    twin = wide_twin(p, name, optimizer, **kw)
    (q,) = twin.param_groups[0]["params"]
    p.grad, q.grad = g, g.float()
    optimizer.step()
    twin.step()
    found, expected = seen(optimizer, optimizer.state[p]), seen(twin, twin.state[q])
    # float32 sums of a few hundred terms; without the rest, 1e-3 and far more.
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected), rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_stochastic_rounding_keeps_the_expectation_of_tiny_steps(dtype):
    torch.manual_seed(0)
    p, exact, _ = tiny_steps(dtype, "stochastic", steps=100)
    # A walk of 100 draws that round up or down by a unit with p = 1/100: variance below 1 unit**2 an element.
    assert abs(p.mean() - exact) < 5 * UNIT[dtype] / 1200**0.5


@pytest.mark.parametrize("value", [1.3, -1.3, 700.7, 3e-6, 5e-8, -6e-5, 2.0**-14 * 1.0001, 65510.0])
@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_stochastic_rounding_chooses_a_neighbour_with_the_right_probability(dtype, value):
    torch.manual_seed(1)
    count = 40_000
    q = torch.nn.Parameter(torch.zeros(count, dtype=dtype))
    optimizer = build("SGD", [q], lr=abs(value), rounding="stochastic")
    q.grad = torch.full((count,), -1.0 if value > 0 else 1.0, dtype=dtype)
    optimizer.step()
    found = q.detach().double().unique()
    wide = torch.tensor(value, dtype=torch.float32).double()
    if not found.isfinite().all():  # beyond the largest float16 the upper neighbour is infinite
        assert dtype is torch.float16 and value == 65510.0 and found[0] == 65504
        return
    gap = found[-1] - found[0]
    nearest = wide.to(dtype).double()
    assert len(found) <= 2 and found[0] <= wide <= found[-1] and nearest in found
    assert abs(q.detach().double().mean() - wide) <= 5 * gap / 2 / count**0.5 + 2.0**-37


@pytest.mark.parametrize("dtype", SHORT, ids=str)
def test_stochastic_rounding_follows_torchs_seed_and_not_the_threads(dtype):
    def once(seed, threads=1):
        torch.manual_seed(seed)
        return run("fp32", steps=3, shape=(100_003,), dtype=dtype, threads=threads, rounding="stochastic")[0]

    assert torch.equal(once(0), once(0))
    assert torch.equal(once(0), once(0, threads=3))
    assert not torch.equal(once(0), once(1))


def test_draws_differ_from_element_to_element_step_to_step_and_tensor_to_tensor():
    torch.manual_seed(0)
    ps = [torch.nn.Parameter(torch.zeros(1 << 16, dtype=torch.bfloat16)) for _ in range(2)]
    optimizer = build("SGD", ps, lr=1.0 + 2.0**-8, rounding="stochastic")
    seen = []
    for _ in range(2):
        for p in ps:
            p.data.zero_()
            p.grad = torch.full_like(p, -1.0)
        optimizer.step()
        seen += [(p.detach() > 1).float() for p in ps]
    table = torch.corrcoef(torch.stack([*seen, seen[0].roll(1), seen[0].roll(256)]))
    off = (table - torch.eye(len(table))).abs().max()
    assert off < 5 / 2**8  # 5 standard errors of a correlation of 2**16 pairs
    assert abs(seen[0].mean() - 0.5) < 5 / 2**9


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_wider_parameters_are_not_touched_by_rounding(rounding):
    before = torch.get_rng_state()
    a, optimizer = run("fp32", rounding=rounding)
    b, _ = run("fp32")
    assert torch.equal(a, b) and "kahan_comp" not in optimizer.state[a]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
@pytest.mark.parametrize("name", ["AdamW", "LAMB", "ScheduleFreeAdamW", "Lion", "SGD"])
def test_nan_and_inf_stay_visible(name, rounding, dtype):
    p = torch.nn.Parameter(torch.ones(40, dtype=dtype))
    p.grad = torch.ones_like(p)
    p.grad[3] = float("nan")
    optimizer = build(name, [p], rounding=rounding)
    optimizer.step()
    assert p[3].isnan()


@pytest.mark.parametrize("name", ["AdamW", "LAMB", "ScheduleFreeAdamW", "Adan"])
def test_a_reloaded_kahan_optimizer_goes_on_bit_for_bit(name):
    p, optimizer = run("8bit", name=name, dtype=torch.bfloat16, rounding="kahan")
    q = torch.nn.Parameter(p.detach().clone())
    other = build(name, [q], state_dtype="8bit", rounding="kahan")
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3):
        p.grad = q.grad = normal(*p.shape, seed=60 + step).to(p.dtype)
        optimizer.step()
        other.step()
    assert torch.equal(p, q)


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_plain_torch_rounds_alike(rounding, monkeypatch):
    monkeypatch.setattr("kudari.optim.bound_group._backend", lambda *_: None)
    monkeypatch.setattr("kudari.optim.bound_group._say_eager", lambda *_: None)
    for dtype in SHORT:
        torch.manual_seed(0)
        p, exact, _ = tiny_steps(dtype, rounding, steps=100)
        if rounding == "kahan":
            assert (p - exact).abs().max() <= UNIT[dtype]
        else:
            assert abs(p.mean() - exact) < 5 * UNIT[dtype] / 1200**0.5


# --- skip_nonfinite


def everything(optimizer):
    return copy.deepcopy(optimizer.state_dict()), [
        p.detach().clone() for g in optimizer.param_groups for p in g["params"]
    ]


def same(a, b):
    if torch.is_tensor(a):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["AdamW", "SGD", "LAMB", "NAdam", "ScheduleFreeAdamW"])
@pytest.mark.parametrize("first", [True, False])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing_in_any_group(name, bad, first):
    kw = {"momentum": 0.9} if name == "SGD" else {}
    params = start(torch.float32)
    optimizer = build(name, [{"params": params[:2]}, {"params": params[2:]}], skip_nonfinite=True, **kw)
    for step in range(2):
        for p, g in zip(params, gradients(step, torch.float32), strict=True):
            p.grad = g
        if step == 1 or not first:
            break
        optimizer.step()
    params[-1].grad[-1] = bad
    before = everything(optimizer)
    optimizer.step()
    assert same(everything(optimizer), before)
    params[-1].grad[-1] = 1.0
    optimizer.step()
    assert not same(everything(optimizer)[1], before[1])


@pytest.mark.parametrize("where", [0, 7, 40_000, 99_999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_one_element_anywhere_in_any_dtype_is_noticed(where, dtype):
    p = torch.nn.Parameter(torch.zeros(100_000, dtype=dtype))
    optimizer = build("SGD", [p], lr=1.0, skip_nonfinite=True)
    p.grad = torch.full_like(p, torch.finfo(dtype).max)
    p.grad[where] = float("inf")
    optimizer.step()
    assert (p == 0).all()
    p.grad[where] = 0
    optimizer.step()
    assert p.count_nonzero() == 99_999


def test_a_group_that_does_not_ask_is_not_looked_at():
    a, b = torch.nn.Parameter(torch.ones(4)), torch.nn.Parameter(torch.ones(4))
    optimizer = build("SGD", [{"params": [a], "skip_nonfinite": True}, {"params": [b]}], lr=1.0)
    a.grad, b.grad = torch.ones(4), torch.full((4,), float("nan"))
    optimizer.step()
    assert (a == 0).all() and b.isnan().all()
    a.grad[0] = float("nan")
    b.data.zero_()
    b.grad = torch.ones(4)
    optimizer.step()
    assert (b == 0).all()  # the whole step is dropped


def test_strided_and_sparse_gradients_are_looked_at():
    for g in (torch.full((6, 4), float("nan")).t(), torch.ones(8, 6)[::2], torch.zeros(1, 1).expand(4, 6)):
        p = torch.nn.Parameter(torch.ones(4, 6))
        p.grad = g
        optimizer = build("SGD", [p], lr=1.0, skip_nonfinite=True)
        optimizer.step()
        assert torch.equal(p.detach(), torch.ones(4, 6)) is bool(g.isnan().any() or not g.any())
    p = torch.nn.Parameter(torch.ones(4))
    p.grad = torch.sparse_coo_tensor([[1]], [float("inf")], (4,), check_invariants=True)
    optimizer = build("SGD", [p], lr=1.0, skip_nonfinite=True)
    optimizer.step()
    assert (p == 1).all()


def test_skip_nonfinite_is_off_by_default():
    assert kudari.optim.AdamW([torch.nn.Parameter(torch.ones(1))]).defaults["skip_nonfinite"] is False


def test_sums_over_rows_and_columns_are_each_tensors_own_where_rounding_draws():
    # Random bits bring a key into each tensor's row of the table; the last matrix is cut, and folded.
    shapes = [(8, 4), (8, 4), (3, 3), (1500, 40)]

    def states(rounding):
        params = start(torch.bfloat16, shapes)
        optimizer = kudari.optim.Adafactor(params, rounding=rounding)
        for p, g in zip(params, gradients(0, torch.bfloat16, shapes), strict=True):
            p.grad = g
        optimizer.step()
        return [optimizer.state[p][key] for p in params for key in ("row_var", "col_var")]

    assert all(map(torch.equal, states("stochastic"), states("nearest")))
