"""Optimizers whose elements are coupled by sums, on every road that the elementwise ones are tried on."""

import copy
import io

import numpy as np
import pytest
import torch

import kudari.optim
from kudari.compile import plan
from tests.cpu.optim.conftest import build, gradients, start
from tests.oracle import ORACLES, prodigy

CASES = [
    ("LAMB", {"lr": 0.02, "weight_decay": 0.1, "variant": "nvlamb"}),
    ("LARS", {"weight_decay": 0.1}),
    ("StableAdamW", {"lr": 0.1, "weight_decay": 0.3}),
    ("MARS", {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True, "gamma": 0.1, "lr_1d_factor": 0.5}),
    ("Adafactor", {"lr": 0.1, "weight_decay": 0.1, "d": 1.5}),
    ("Prodigy", {"weight_decay": 0.1, "d0": 1e-2, "use_bias_correction": True}),
    ("Prodigy", {"d0": 1e-2, "slice_p": 3, "decouple": False, "weight_decay": 0.1}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(CASES)]
every_case = pytest.mark.parametrize(("name", "kw"), CASES, ids=IDS)
# A matrix, a batch of small ones, a row, a column, more rows than a chunk holds, vectors, a scalar, nothing.
SHAPES = [(16, 24), (3, 2, 3, 3), (1, 9), (9, 1), (1500, 40), (2, 800, 50), (24,), (7,), (), (0, 3), (1,)]

ORACLE_CASES = [
    ("MARS", {}),
    ("MARS", {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "gamma": 0.2}),
    ("MARS", {"lr": 0.01, "amsgrad": True, "lr_1d_factor": 0.5, "betas_1d": (0.7, 0.8)}),
    ("MARS", {"lr": 0.01, "optimize_1d": True, "weight_decay": 0.1}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.1, "beta2_decay": -0.5, "eps": (1e-4, 0.1), "d": 2.0, "weight_decay": 0.1}),
]
PRODIGY_CASES = [
    {},
    {"d0": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "use_bias_correction": True},
    {"lr": 0.5, "d0": 1e-3, "beta3": 0.9, "weight_decay": 0.1, "decouple": False, "safeguard_warmup": True},
    {"d0": 1e-3, "d_coef": 2.0, "growth_rate": 1.5, "slice_p": 5},
]


def steady(step, dtype=torch.float64, shapes=SHAPES):
    """Gradients with a direction in common, so that Prodigy's estimate grows."""
    return [g + 2 for g in gradients(step, dtype, shapes)]


def train(optimizer, params, steps, first=0, dtype=torch.float64, shapes=SHAPES):
    for step in range(first, first + steps):
        for p, g in zip(params, steady(step, dtype, shapes), strict=True):
            p.grad = g
        optimizer.step()
    return [p.detach().clone() for p in params]


# Of the distance moved; in float32 a rounding of p at every step comes on top. Prodigy in float32 is judged
# by a float64 that rounds p as well (most seen 1.2e-6).
NEAR = {
    torch.float64: {"MARS": 1e-9, "Adafactor": 1e-9, "Prodigy": 1e-8},
    torch.float32: {"MARS": 1e-5, "Adafactor": 5e-5, "Prodigy": 1e-5},
}


def close(name, found, expected, origin, dtype, steps):
    for a, b, first in zip(found, expected, origin, strict=True):
        if b.size:
            moved = np.abs(b - first).max()
            assert moved > 0
            rounding = steps * np.finfo(np.float32).eps * np.abs(b).max() if dtype is torch.float32 else 0
            assert np.abs(a.double().numpy() - b).max() <= NEAR[dtype][name] * moved + rounding


@pytest.mark.parametrize(
    ("name", "kw"), ORACLE_CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(ORACLE_CASES)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_trajectories_equal_the_numpy_transcription(name, kw, dtype):
    params = start(dtype, SHAPES)
    origin = [p.detach().double().numpy().copy() for p in params]
    found = train(build(name, params, **kw), params, 20, dtype=dtype)
    expected, states = list(origin), [{} for _ in origin]
    more = {"machine_eps": torch.finfo(dtype).eps} if name == "Adafactor" else {}
    for step in range(20):
        for i, g in enumerate(steady(step, dtype)):
            if g.numel():
                expected[i] = ORACLES[name](expected[i], g.double().numpy(), states[i], **kw, **more)
    close(name, found, expected, origin, dtype, 20)


@pytest.mark.parametrize("kw", PRODIGY_CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_prodigy_equals_the_numpy_transcription_over_all_tensors(kw, dtype):
    params = start(dtype, SHAPES)
    origin = [p.detach().double().numpy().copy() for p in params]
    groups = [{"params": params[:4]}, {"params": params[4:]}]
    optimizer = kudari.optim.Prodigy(groups, **kw)
    found = train(optimizer, params, 20, dtype=dtype)
    expected, state = list(origin), {}
    for step in range(20):
        grads = [g.double().numpy() for g in steady(step, dtype)]
        expected = prodigy(expected, grads, state, **kw)
        if dtype is torch.float32:  # p - p0 starts below the rounding of p, which is not ours to judge
            expected = [p.astype(np.float32).astype(np.float64) for p in expected]
    close("Prodigy", found, expected, origin, dtype, 20)
    assert state["d"] > 5 * kw.get("d0", 1e-6)
    relative = 1e-9 if dtype is torch.float64 else 1e-3
    for group in optimizer.param_groups:
        assert group["k"] == 20
        for name in ("d", "d_max"):
            assert group[name] == pytest.approx(state[name], rel=relative)
        assert group["d_numerator"] == pytest.approx(state["N"], rel=relative, abs=1e-4)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("kw", [{}, {"lr": 0.1, "eps": (1e-4, 0.1), "d": 2.0, "weight_decay": 0.1}])
def test_adafactor_equals_torchs_and_checkpoints_load_both_ways(kw, maximize):
    shapes = [s for s in SHAPES if s != (0, 3)]
    a, b = start(torch.float64, shapes), start(torch.float64, shapes)
    ours = kudari.optim.Adafactor(a, maximize=maximize, **kw)
    theirs = torch.optim.Adafactor(b, maximize=maximize, **kw)
    for x, y in ((ours, theirs), (theirs, ours)):
        first, second = (train(o, o.param_groups[0]["params"], 5, shapes=shapes) for o in (ours, theirs))
        for p, q in zip(first, second, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-11)
        y.load_state_dict(copy.deepcopy(x.state_dict()))
    for p, q in zip(a, b, strict=True):
        assert {k: v.shape for k, v in ours.state[p].items()} == {
            k: v.shape for k, v in theirs.state[q].items()
        }


def test_the_machine_epsilon_of_adafactor_is_that_of_each_tensors_own_dtype():
    together = [start(d, [(6, 5)])[0] for d in (torch.bfloat16, torch.float32)]
    alone = torch.nn.Parameter(together[1].detach().clone())
    for p in (*together, alone):
        p.grad = torch.full_like(p, 1e-6).detach()
    kudari.optim.Adafactor(together, lr=0.1).step()
    kudari.optim.Adafactor([alone], lr=0.1).step()
    assert torch.equal(together[1].detach(), alone.detach())


PLANS = {
    ("MARS", True): ("g y / -; then p g m v y / p m v y", 44),
    ("MARS", False): ("p g m v / p m v", 28),
    ("Adafactor", True): ("p g / -; then g / -; then p g / p", 24),
    ("Adafactor", False): ("p g v / -; then p g v / p v", 32),
    ("Prodigy", None): ("p g s p0 / s; then p g m v / p m v", 48),
}


@pytest.mark.parametrize(("name", "first"), PLANS)
def test_the_passes_move_the_bytes_of_the_best_plan(name, first):
    rule = getattr(kudari.optim, name).rule
    config = {rule.kinds[0].name: first} if first is not None else {}
    found = kudari.optim.describe(rule, config)
    assert (found.passes, found.bytes_per_parameter) == PLANS[name, first]


class Marked(torch.nn.Parameter):
    """A subclass the kernels leave to plain torch operations."""


@every_case
@pytest.mark.filterwarnings("ignore::kudari.optim.EagerFallbackWarning")
def test_the_road_of_plain_torch_operations_gives_the_same_numbers(name, kw):
    fast = start(torch.float64, SHAPES)
    slow = [Marked(p.detach().clone()) for p in fast]
    first, second = build(name, fast, **kw), build(name, slow, **kw)
    train(first, fast, 6)
    train(second, slow, 6)
    for p, q in zip(fast, slow, strict=True):
        plain = q.detach().as_subclass(torch.Tensor)
        torch.testing.assert_close(p.detach(), plain, rtol=1e-11, atol=1e-12)
        for key, value in first.state[p].items():
            other = second.state[q][key].as_subclass(torch.Tensor)
            torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-13)


@every_case
def test_same_bits_for_one_and_two_threads(name, kw, monkeypatch):
    monkeypatch.setattr(plan, "PER_THREAD", 1)
    shapes = [(70_001,), (300, 301), (5, 6), (1500, 40), (40, 3000)]
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        params = start(torch.float32, shapes)
        found.append(train(build(name, params, **kw), params, 3, dtype=torch.float32, shapes=shapes))
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every_case
def test_a_reloaded_optimizer_continues_bit_for_bit(name, kw):
    params = start(torch.float32, SHAPES)
    first = build(name, params, **kw)
    train(first, params, 4, dtype=torch.float32)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    copies = [torch.nn.Parameter(p.detach().clone()) for p in params]
    second = build(name, copies, lr=0.5)
    second.load_state_dict(torch.load(file, weights_only=True))
    a = train(first, params, 4, 4, torch.float32)
    b = train(second, copies, 4, 4, torch.float32)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


LAYOUTS = {
    "transposed": lambda x: x.t().contiguous().t(),
    "every second column": lambda x: torch.stack([x, x + 1], -1).flatten(1)[:, ::2],
}


@every_case
@pytest.mark.parametrize("layout", LAYOUTS, ids=[k.replace(" ", "-") for k in LAYOUTS])
@pytest.mark.parametrize("of", ["parameter", "gradient", "both"])
def test_any_strides_give_the_numbers_of_contiguous_tensors_in_place(name, kw, layout, of):
    shape, change = (13, 11), LAYOUTS[layout]
    plain = start(torch.float64, [shape])[0]
    data = plain.detach().clone()
    strided = torch.nn.Parameter(change(data) if of != "gradient" else data)
    strides, address = strided.stride(), strided.data_ptr()
    first, second = build(name, [plain], **kw), build(name, [strided], **kw)
    for step in range(4):
        plain.grad = gradients(step, torch.float64, [shape])[0]
        strided.grad = change(plain.grad) if of != "parameter" else plain.grad.clone()
        first.step()
        second.step()
    torch.testing.assert_close(plain.detach(), strided.detach(), rtol=1e-12, atol=1e-12)
    assert (strided.stride(), strided.data_ptr()) == (strides, address)


@every_case
def test_gradients_are_read_and_never_written(name, kw):
    params, grads = start(torch.float32, SHAPES), gradients(0, torch.float32, SHAPES)
    for p, g in zip(params, grads, strict=True):
        p.grad = g.clone()
    kept = [p.grad for p in params]
    optimizer = build(name, params, maximize=True, **kw)
    optimizer.step()
    optimizer.step()
    for p, g, k in zip(params, grads, kept, strict=True):
        assert p.grad is k
        assert torch.equal(p.grad, g)


@every_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_parameters_are_updated_in_float32_and_rounded_once(name, kw, dtype):
    p = start(dtype, [(17, 15)])[0]
    wide = torch.nn.Parameter(p.detach().float())
    g = gradients(0, dtype, [(17, 15)])[0].clamp(-8, 8)
    p.grad, wide.grad = g, g.float()
    kw = {"eps": (1e-7, 1e-3), **kw} if name == "Adafactor" else kw
    for q in (p, wide):
        build(name, [q], **kw).step()
    assert torch.equal(p.detach(), wide.detach().to(dtype))


@pytest.mark.parametrize("name", ["MARS", "Adafactor"])
def test_a_nan_stays_in_its_own_tensor(name):
    a, b = (torch.nn.Parameter(torch.ones(20, 3)) for _ in range(2))
    a.grad, b.grad = torch.ones(20, 3), torch.ones(20, 3)
    a.grad[2, 1] = torch.nan
    getattr(kudari.optim, name)([a, b]).step()
    assert a.detach()[2, 1].isnan()
    assert b.detach().isfinite().all()


@pytest.mark.parametrize("name", ["MARS", "Adafactor", "Prodigy"])
def test_zero_gradients_and_zero_parameters_stay_finite(name):
    params = [torch.nn.Parameter(torch.zeros(s)) for s in [(4, 5), (5,), ()]]
    optimizer = build(name, params)
    for size in (0.0, 0.0, 1.0, 0.0):
        for p in params:
            p.grad = torch.full_like(p, size).detach()
        optimizer.step()
    assert all(p.detach().isfinite().all() for p in params)


def test_a_cautious_mars_masks_by_the_raw_gradient():
    moved = {}
    for cautious in (False, True):
        p = start(torch.float64, [(20, 30)])[0]
        optimizer = kudari.optim.MARS([p], lr=0.1, gamma=5.0, cautious=cautious)
        before = None
        for step in range(3):
            before = p.detach().clone()
            p.grad = gradients(step, torch.float64, [(20, 30)])[0]
            optimizer.step()
            if step == 0 and not cautious:
                moved["first"] = before - p.detach()
            if step == 0 and cautious:  # the first c is along g: nothing is masked but zeros
                kept = (p.grad != 0).double()
                torch.testing.assert_close(before - p.detach(), moved["first"] / kept.mean())
        moved[cautious] = before - p.detach()
    against = moved[False] * p.grad <= 0
    assert against.any()
    assert (moved[True][against] == 0).all()


def test_the_first_correction_of_mars_is_none_and_the_gradient_is_kept_apart():
    p = start(torch.float64, [(4, 5)])[0]
    optimizer = kudari.optim.MARS([p])
    p.grad = torch.full((4, 5), 0.01, dtype=torch.float64)
    optimizer.step()
    kept = optimizer.state[p]["last_grad"]
    assert torch.equal(kept, p.grad)
    assert kept.data_ptr() != p.grad.data_ptr()
    torch.testing.assert_close(optimizer.state[p]["exp_avg"], (1 - 0.95) * p.grad)


def test_vectors_of_mars_have_no_last_gradient_unless_asked_for():
    for optimize_1d in (False, True):
        p = torch.nn.Parameter(torch.ones(3))
        p.grad = torch.ones(3)
        optimizer = kudari.optim.MARS([p], optimize_1d=optimize_1d)
        optimizer.step()
        assert ("last_grad" in optimizer.state[p]) is optimize_1d


def test_a_group_of_prodigy_with_lr_0_is_frozen_entirely():
    params = start(torch.float64, [(5,), (6,)])
    before = params[1].detach().clone()
    groups = [{"params": [params[0]]}, {"params": [params[1]], "lr": 0.0, "weight_decay": 0.5}]
    optimizer = kudari.optim.Prodigy(groups, d0=1e-2)
    alone = start(torch.float64, [(5,)])
    other = kudari.optim.Prodigy(alone, d0=1e-2)
    for step in range(5):
        for p, g in zip(params, gradients(step, shapes=[(5,), (6,)]), strict=True):
            p.grad = g
        alone[0].grad = params[0].grad.clone()
        optimizer.step()
        other.step()
    assert torch.equal(params[1].detach(), before)
    assert torch.equal(params[0].detach(), alone[0].detach())
    assert params[1] not in optimizer.state
    for key in ("d", "d_max", "d_numerator", "k"):
        assert optimizer.param_groups[1][key] == other.param_groups[0][key]


def test_two_positive_learning_rates_of_prodigy_are_refused():
    a, b = start(torch.float32, [(2,), (3,)])
    match = r"Prodigy: lr=1\.0 and lr=0\.5 are not allowed"
    with pytest.raises(ValueError, match=match):
        kudari.optim.Prodigy([{"params": [a]}, {"params": [b], "lr": 0.5}])
    optimizer = kudari.optim.Prodigy([{"params": [a]}, {"params": [b]}])
    for p in (a, b):
        p.grad = torch.ones_like(p)
    optimizer.param_groups[1]["lr"] = 0.5
    before = a.detach().clone()
    with pytest.raises(ValueError, match=match):
        optimizer.step()
    assert torch.equal(a.detach(), before)


def test_a_group_added_to_prodigy_later_has_the_models_numbers():
    a, b = start(torch.float64, [(5,), (6,)])
    optimizer = kudari.optim.Prodigy([a], d0=1e-2)
    for step in range(4):
        a.grad = steady(step, shapes=[(5,)])[0]
        optimizer.step()
    optimizer.add_param_group({"params": [b]})
    first, second = optimizer.param_groups
    assert [first[k] for k in ("d", "d_max", "d_numerator", "k")] == [
        second[k] for k in ("d", "d_max", "d_numerator", "k")
    ]
    assert first["d"] > 1e-2


def test_sliced_states_of_prodigy_hold_every_kth_element_in_row_major_order():
    p = torch.nn.Parameter(torch.arange(24.0).view(4, 6).t())
    p.grad = torch.arange(24.0).view(6, 4) + 1
    optimizer = kudari.optim.Prodigy([p], slice_p=5)
    optimizer.step()
    state = optimizer.state[p]
    assert (state["s"].shape, state["p0"].shape) == ((5,), (5,))
    assert torch.equal(state["p0"], torch.arange(24.0).view(4, 6).t().flatten()[::5])


@pytest.mark.parametrize(
    ("name", "kw", "match"),
    [
        ("Prodigy", {"d0": 0.0}, "Prodigy: d0=0.0 is not allowed; expected d0 > 0"),
        (
            "Prodigy",
            {"growth_rate": 0.5},
            "Prodigy: growth_rate=0.5 is not allowed; expected growth_rate >= 1",
        ),
        ("Prodigy", {"slice_p": 0}, "Prodigy: slice_p=0 is not allowed; expected slice_p >= 1"),
        ("Prodigy", {"slice_p": 1.5}, "Prodigy: slice_p"),
        ("Adafactor", {"beta2_decay": 0.1}, "Adafactor: beta2_decay=0.1 is not allowed; expected"),
        ("Adafactor", {"eps": (None, -1.0)}, r"Adafactor: eps\[1\]=-1.0 is not allowed; expected"),
        ("Adafactor", {"eps": (1e-3, None)}, r"Adafactor: eps\[1\]=None is not allowed"),
        ("Adafactor", {"d": 0.5}, "Adafactor: d=0.5 is not allowed; expected d >= 1"),
        ("MARS", {"gamma": -0.1}, "MARS: gamma=-0.1 is not allowed; expected gamma >= 0"),
        ("MARS", {"betas_1d": (0.9, 1.0)}, r"MARS: betas_1d\[1\]=1.0 is not allowed; expected"),
    ],
)
def test_values_outside_their_range_are_refused_by_name(name, kw, match):
    with pytest.raises(ValueError, match=match):
        getattr(kudari.optim, name)([torch.nn.Parameter(torch.ones(2))], **kw)


@pytest.mark.parametrize("name", ["MARS", "Adafactor", "Prodigy"])
def test_complex_parameters_are_refused(name):
    p = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match=rf"{name} cannot update a complex"):
        getattr(kudari.optim, name)([p]).step()


CHANGED = {"lr": 0.7, "eps": 0.5, "weight_decay": 0.5, "weight_decay_1d": 0.5, "gamma": 0.5, "amsgrad": True,
           "optimize_1d": True, "lr_1d_factor": 0.5, "cautious": True, "beta2_decay": -0.3, "d": 3.0,
           "beta3": 0.5, "decouple": False, "use_bias_correction": True, "safeguard_warmup": True, "d0": 1e-3,
           "d_coef": 0.5, "growth_rate": 1.01, "slice_p": 2, ("Adafactor", "eps"): (0.5, 3.0)}  # fmt: skip
# What must be on for another value to matter.
NEEDED = {("Prodigy", "safeguard_warmup"): {"lr": 0.5}}


@pytest.mark.parametrize("name", ["MARS", "Adafactor", "Prodigy"])
def test_every_hyperparameter_has_an_effect(name):
    for d in getattr(kudari.optim, name).rule.declared:
        value = (0.5,) * len(d.default) if isinstance(d.default, tuple) else CHANGED[d.name]
        value = CHANGED.get((name, d.name), value)
        base = {"weight_decay": 0.1, **NEEDED.get((name, d.name), {})}
        results = []
        for kw in (base, {**base, d.name: value}):
            params = start(torch.float64, [(5, 6), (7,)])
            results.append(train(build(name, params, **kw), params, 8, shapes=[(5, 6), (7,)]))
        assert not all(torch.equal(a, b) for a, b in zip(*results, strict=True)), (name, d.name)
