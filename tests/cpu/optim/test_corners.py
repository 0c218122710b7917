"""First steps, zeros and switches of single optimizers, and the vector functions that one of them needs."""

import copy
import math

import numpy as np
import pytest
import torch

import kudari.optim
from kudari.compile.notation import Step, atan2, hyper, rule
from kudari.optim import make_class
from tests.cpu.optim.conftest import gradients, start


def one_step(name, g, dtype=torch.float32, **kw):
    p = torch.nn.Parameter(torch.zeros(len(g), dtype=dtype))
    p.grad = torch.tensor(g, dtype=dtype)
    getattr(kudari.optim, name)([p], **kw).step()
    return p.detach()


FIRST = {
    "Adagrad": lambda lr: lr,
    "Adamax": lambda lr: lr,
    "RMSprop": lambda lr: lr / math.sqrt(1 - 0.99),
    "AdamAtan2": lambda lr: lr * 1.27 * math.pi / 4,
    "Lion": lambda lr: lr,
}


@pytest.mark.parametrize("name", FIRST)
def test_the_first_step_has_the_size_the_formula_says(name):
    size = FIRST[name](0.1)
    found = one_step(name, [0.5, -3.0, 1e3, 0.0], lr=0.1)
    torch.testing.assert_close(found, torch.tensor([-size, size, -size, 0.0]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_first_gradient_of_adopt_moves_nothing(decoupled):
    p = torch.nn.Parameter(torch.ones(4))
    p.grad = torch.tensor([1.0, -2.0, 0.0, 1e4])
    optimizer = kudari.optim.ADOPT([p], lr=0.1, weight_decay=0.5, decoupled_weight_decay=decoupled)
    optimizer.step()
    assert torch.equal(p.detach(), torch.ones(4))
    assert torch.equal(optimizer.state[p]["exp_avg"], torch.zeros(4))
    decayed = p.grad if decoupled else p.grad + 0.5
    assert torch.equal(optimizer.state[p]["exp_avg_sq"], decayed**2)
    p.grad = torch.full((4,), 1e6)
    optimizer.step()  # clipped at 1 where the second gradient is far above the first
    assert (p.detach()[:3] > 0.9 - 0.05).all()


def test_adan_has_no_difference_at_its_first_gradient_whenever_that_comes():
    p, late = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    optimizer = kudari.optim.Adan([p, late])
    for step in range(3):
        p.grad = gradients(step, shapes=[(3,)])[0]
        late.grad = gradients(2, shapes=[(3,)])[0] if step == 2 else None
        optimizer.step()
    state = optimizer.state[late]
    assert torch.equal(state["exp_avg_diff"], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(state["neg_pre_grad"], -late.grad)


def test_each_tensor_has_its_own_product_of_momenta_in_float64():
    a, late = (torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(2))
    optimizer = kudari.optim.NAdam([a, late], momentum_decay=0.1)
    for step in range(3):
        a.grad = torch.ones(3, dtype=torch.bfloat16)
        late.grad = torch.ones(3, dtype=torch.bfloat16) if step == 2 else None
        optimizer.step()
    mu = [0.9 * (1 - 0.5 * 0.96 ** (0.1 * t)) for t in (1, 2, 3)]
    for p, expected in ((a, mu[0] * mu[1] * mu[2]), (late, mu[0])):
        product = optimizer.state[p]["mu_product"]
        assert (product.dtype, product.shape) == (torch.float64, ())
        assert product.item() == pytest.approx(expected, rel=1e-15)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0]["mu_product"] = saved["state"][0]["mu_product"].float()  # as torch has it
    optimizer.load_state_dict(saved)
    assert optimizer.state[a]["mu_product"].dtype is torch.float64


def test_a_product_of_momenta_that_is_replaced_outside_is_the_one_used():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = kudari.optim.NAdam([p])
    p.grad = torch.ones(3)
    optimizer.step()
    old = optimizer.state[p]["mu_product"]
    kept = old.clone()
    optimizer.state[p]["mu_product"] = torch.tensor(0.5, dtype=torch.float64)
    optimizer.step()
    assert torch.equal(old, kept)
    assert optimizer.state[p]["mu_product"].item() == pytest.approx(0.5 * 0.9 * (1 - 0.5 * 0.96**0.008))


def test_radam_is_momentum_for_five_steps_and_then_adapts():
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = kudari.optim.RAdam([p], lr=0.1)
    moved = []
    for _ in range(7):
        before = p.item()
        p.grad = torch.full((1,), 100.0, dtype=torch.float64)
        optimizer.step()
        moved.append(before - p.item())
    assert moved[:5] == pytest.approx([10.0] * 5)
    assert max(moved[5:]) < 0.1


def test_warmups_of_zero_are_no_warmups():
    found = []
    for kw in ({}, {"beta3_warmup": 0, "alpha_warmup": 0}):
        p = start(torch.float64, [(9,)])[0]
        optimizer = kudari.optim.AdEMAMix([p], **kw)
        for step in range(4):
            p.grad = gradients(step, shapes=[(9,)])[0]
            optimizer.step()
        found.append(p.detach())
    assert torch.equal(*found)


def test_betas_of_zero_leave_every_class_finite():
    for name, cls in {r.name: kudari.optim.get(r.name) for r in kudari.optim.rules()}.items():
        sizes = [len(h.default) for h in cls.rule.hypers if h.name == "betas"]
        if not sizes or name == "ScheduleFreeAdamW":
            continue
        kw = {"beta3_warmup": 5} if name == "AdEMAMix" else {}
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = cls([p], betas=(0.0,) * sizes[0], **kw)
        for step in range(3):
            p.grad = torch.full((3,), 1.0 + step)
            optimizer.step()
        assert p.detach().isfinite().all(), name


def test_the_initial_sum_of_adagrad_is_given_to_complex_parts_alike():
    for dtype in (torch.float32, torch.complex64):
        p = torch.nn.Parameter(torch.zeros(2, dtype=dtype))
        p.grad = torch.zeros(2, dtype=dtype)
        optimizer = kudari.optim.Adagrad([p], initial_accumulator_value=0.5)
        optimizer.step()
        parts = optimizer.state[p]["sum"]
        parts = torch.view_as_real(parts) if dtype.is_complex else parts
        assert torch.equal(parts, torch.full_like(parts, 0.5))


def test_a_constant_gradient_does_not_make_centered_rmsprop_nan():
    p = torch.nn.Parameter(torch.zeros(64))
    optimizer = kudari.optim.RMSprop([p], alpha=0.5, centered=True, eps=1e-3)
    g = torch.linspace(0.1, 7.0, 64)
    for _ in range(60):
        p.grad = g.clone()
        optimizer.step()
    assert p.detach().isfinite().all()


@rule(name="Angle", source="a test")
def angle(p, g):
    return Step(p=atan2(p, g))


def angles(y, x, dtype):
    p = torch.nn.Parameter(torch.tensor(y, dtype=dtype))
    p.grad = torch.tensor(x, dtype=dtype)
    make_class(angle)([p]).step()
    return p.detach().numpy()


@pytest.mark.parametrize(
    ("dtype", "wide"), [(torch.float32, np.float64), (torch.float64, np.longdouble)], ids=["f32", "f64"]
)
def test_the_angle_is_within_2_ulp_all_around(dtype, wide):
    if np.finfo(wide).eps >= torch.finfo(dtype).eps:
        pytest.skip(reason="needs a wider float to judge by")
    rng = np.random.default_rng(0)
    n = 200_000
    narrow = np.float32 if dtype is torch.float32 else np.float64
    y = (rng.choice([-1, 1], n) * 10 ** rng.uniform(-3, 3, n)).astype(narrow)
    ratio = 10 ** np.where(rng.random(n) < 0.5, rng.uniform(-3, 3, n), rng.uniform(-0.4, 0.4, n))
    x = (y * ratio * rng.choice([-1, 1], n)).astype(narrow)
    true = np.arctan2(y.astype(wide), x.astype(wide))
    off = np.abs(angles(y, x, dtype).astype(wide) - true) / np.spacing(np.abs(true.astype(narrow)))
    assert off.max() <= 2.0  # most seen over eight million points: 1.51 and 1.66


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_angle_of_zeros_infinities_and_nan_is_that_of_ieee(dtype):
    values = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, 3e38, -3e38, 1e-38]
    narrow = np.float32 if dtype is torch.float32 else np.float64
    y, x = np.meshgrid(np.array(values, dtype=narrow), np.array(values, dtype=narrow))
    found, true = angles(y, x, dtype), np.arctan2(y, x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(true))
    finite = ~np.isnan(true)
    np.testing.assert_array_equal(np.signbit(found[finite]), np.signbit(true[finite]))
    np.testing.assert_allclose(found[finite], true[finite], rtol=3 * np.finfo(narrow).eps)


def test_the_angle_of_two_numbers_of_the_group_is_the_same():
    @rule(name="AngleOfNumbers", source="a test")
    def between(p, g, *, y=hyper(1.0), x=hyper(-2.0)):
        return Step(p=p - atan2(y, x) * g)

    p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    p.grad = torch.ones(3, dtype=torch.float64)
    make_class(between)([p]).step()
    assert p[0].item() == pytest.approx(-math.atan2(1.0, -2.0), rel=1e-15)
