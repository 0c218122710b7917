"""Optimizers with norms and means in them, against NumPy transcriptions of their papers."""

import numpy as np
import pytest
import torch

import kudari.optim
from tests.cpu.optim.conftest import gradients, start, trajectory
from tests.oracle import ORACLES


def moments(g, s, b1, b2):
    s["t"] = s.get("t", 0) + 1
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g * g


def cautious_mask(u, g):
    kept = (u * g > 0).astype(float)
    return u * kept / max(kept.mean(), 1e-3)


def lamb(p, g, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01, variant="paper",
         max_grad_norm=1.0, bias_correction=True, cautious=False, all_grads=()):  # fmt: skip
    if variant == "nvlamb" and max_grad_norm is not None:
        total = np.sqrt(sum((x**2).sum() for x in all_grads))
        g = g / max(1.0, total / max_grad_norm)
    moments(g, s, *betas)
    m, v = s["m"], s["v"]
    if bias_correction:
        m, v = m / (1 - betas[0] ** s["t"]), v / (1 - betas[1] ** s["t"])
    r = m / (np.sqrt(v) + eps)
    u = (cautious_mask(r, g) if cautious else r) + weight_decay * p
    a, b = np.linalg.norm(p), np.linalg.norm(u)
    q = a / b if a > 0 and b > 0 else 1.0
    q = min(q, 1.0) if variant == "lambc" else q
    q = 1.0 if variant == "nvlamb" and weight_decay == 0 else q
    return p - lr * q * u


def lars(p, g, s, *, lr=0.1, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001, eps=0.0, nesterov=False,
         variant="paper", all_grads=()):  # fmt: skip
    a, b = np.linalg.norm(p), np.linalg.norm(g)
    q = 1.0
    if trust_coefficient is not None:
        if a > 0 and b > 0:
            q = trust_coefficient * a / (b + weight_decay * a + eps)
        q = min(q / lr, 1.0) if variant == "larc" else q
    d = q * (g + weight_decay * p)
    if momentum == 0:
        return p - lr * d
    if variant == "paper":
        s["b"] = momentum * s.get("b", 0.0) + lr * d
        return p - (lr * d + momentum * s["b"] if nesterov else s["b"])
    s["b"] = momentum * s.get("b", 0.0) + d
    return p - lr * (d + momentum * s["b"] if nesterov else s["b"])


def stable(p, g, s, *, lr=1e-3, betas=(0.9, 0.99), eps=1e-6, weight_decay=1e-2, cautious=False, all_grads=()):
    s["t"] = t = s.get("t", 0) + 1
    b1, b2 = (b * (1 - b ** (t - 1)) / (1 - b**t) for b in betas)
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g * g
    k = lr / max(1.0, np.sqrt(np.mean(g * g / np.maximum(s["v"], eps**2))))
    u = s["m"] / (np.sqrt(s["v"]) + eps)
    u = cautious_mask(u, g) if cautious else u
    return (1 - k * weight_decay) * p - k * u


def cautious_adamw(p, g, s, *, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8, all_grads=()):
    moments(g, s, *betas)
    m, v = s["m"] / (1 - betas[0] ** s["t"]), s["v"] / (1 - betas[1] ** s["t"])
    return (1 - lr * weight_decay) * p - lr * cautious_mask(m / (np.sqrt(v) + eps), g)


def cautious_adam(p, g, s, *, lr, weight_decay, betas=(0.9, 0.999), eps=1e-8, all_grads=()):
    g = g + weight_decay * p
    moments(g, s, *betas)
    m, v = s["m"] / (1 - betas[0] ** s["t"]), s["v"] / (1 - betas[1] ** s["t"])
    return p - lr * cautious_mask(m / (np.sqrt(v) + eps), g)


def cautious_lion(p, g, s, *, lr, weight_decay, betas=(0.9, 0.99), all_grads=()):
    m = s.get("m", np.zeros_like(p))
    u = np.sign(betas[0] * m + (1 - betas[0]) * g)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return (1 - lr * weight_decay) * p - lr * cautious_mask(u, g)


def cautious_sgd(p, g, s, *, lr, weight_decay, momentum, nesterov=False, all_grads=()):
    g = g + weight_decay * p
    s["b"] = momentum * s["b"] + g if "b" in s else g
    u = g + momentum * s["b"] if nesterov else s["b"]
    return p - lr * cautious_mask(u, g)


def case(name, oracle, also=None, **kw):
    label = f"{name}-{'-'.join(f'{k}={v}' for k, v in {**kw, **(also or {})}.items()) or 'defaults'}"
    return pytest.param(name, oracle, kw, also or {}, id=label)


CASES = [
    case("LAMB", lamb),
    case("LAMB", lamb, lr=0.02, betas=(0.8, 0.9), eps=1e-2, weight_decay=0.3),
    case("LAMB", lamb, lr=0.02, weight_decay=0.1, bias_correction=False, variant="lambc"),
    case("LAMB", lamb, lr=0.02, weight_decay=0.1, variant="nvlamb"),
    case("LAMB", lamb, lr=0.02, weight_decay=0.0, variant="nvlamb", max_grad_norm=0.3),
    case("LAMB", lamb, lr=0.02, weight_decay=0.1, variant="nvlamb", max_grad_norm=None),
    case("LAMB", lamb, lr=0.02, weight_decay=0.1, cautious=True),
    *(case("LARS", lars, weight_decay=0.1, variant=v) for v in ("paper", "post", "larc")),
    *(case("LARS", lars, weight_decay=0.1, variant=v, nesterov=True) for v in ("paper", "post", "larc")),
    case("LARS", lars, lr=2.0, momentum=0.0, weight_decay=0.1, eps=0.1),
    case("LARS", lars, lr=0.01, weight_decay=0.1, trust_coefficient=None),
    case("StableAdamW", stable),
    case("StableAdamW", stable, lr=0.1, betas=(0.7, 0.8), eps=1e-2, weight_decay=0.3),
    case("StableAdamW", stable, lr=0.1, weight_decay=0.3, cautious=True),
    case("AdamW", cautious_adamw, {"cautious": True}, lr=0.01, weight_decay=0.3),
    case("Adam", cautious_adam, {"cautious": True}, lr=0.01, weight_decay=0.3),
    case("Lion", cautious_lion, {"cautious": True}, lr=0.01, weight_decay=0.3),
    case("SGD", cautious_sgd, {"cautious": True}, lr=0.01, weight_decay=0.3, momentum=0.9),
    case("SGD", cautious_sgd, {"cautious": True}, lr=0.01, weight_decay=0.3, momentum=0.9, nesterov=True),
]  # fmt: skip
every_case = pytest.mark.parametrize(("name", "oracle", "kw", "also"), CASES)


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_trajectories_equal_the_numpy_transcription(name, oracle, kw, also, dtype, tolerance, ours):
    found, _ = trajectory(ours(name, **kw, **also), 30, dtype)
    first = [p.detach().double().numpy() for p in start(dtype)]
    expected, states = list(first), [{} for _ in first]
    for step in range(30):
        grads = [g.double().numpy() for g in gradients(step, dtype)]
        for i, g in enumerate(grads):
            if g.size:
                expected[i] = oracle(expected[i], g, states[i], all_grads=grads, **kw)
    for a, b, origin in zip(found, expected, first, strict=True):
        if b.size:
            moved = np.abs(b - origin).max()
            assert moved > 0
            rounding = 30 * np.finfo(np.float32).eps * np.abs(b).max() if dtype is torch.float32 else 0
            assert np.abs(a.double().numpy() - b).max() <= tolerance * moved + rounding


@every_case
def test_same_bits_for_one_and_two_threads(name, oracle, kw, also, ours):
    shapes = [(70_001,), (300, 301), (5,)]
    runs = [trajectory(ours(name, **kw, **also), 3, torch.float32, shapes, threads=n)[0] for n in (1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_norms_of_all_groups_and_dtypes_make_one_model_norm(ours):
    shapes = [(30,), (40,)]
    whole = start(torch.float64, shapes)
    parts = [torch.nn.Parameter(p.detach().clone()) for p in whole]
    together = kudari.optim.LAMB(whole, variant="nvlamb")
    apart = kudari.optim.LAMB([{"params": [p]} for p in parts], variant="nvlamb")
    for step in range(3):
        for ps in (whole, parts):
            for p, g in zip(ps, gradients(step, torch.float64, shapes), strict=True):
                p.grad = g
        together.step()
        apart.step()
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_first_lamb_step_moves_every_tensor_by_lr_times_its_norm():
    params = start(torch.float64, [(20, 30), (7,)])
    before = [p.detach().clone() for p in params]
    for p, g in zip(params, gradients(0, torch.float64, [(20, 30), (7,)]), strict=True):
        p.grad = g
    kudari.optim.LAMB(params, lr=0.01).step()
    for p, b in zip(params, before, strict=True):
        torch.testing.assert_close((p.detach() - b).norm(), 0.01 * b.norm(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["LAMB", "LARS", "StableAdamW"])
def test_complex_parameters_are_refused_by_classes_that_couple_elements(name):
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.complex64))
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match=rf"{name} cannot update a complex"):
        getattr(kudari.optim, name)([p]).step()


@pytest.mark.parametrize("name", ["LAMB", "LARS", "StableAdamW"])
def test_a_nan_stays_in_its_own_tensor(name):
    a, b = (torch.nn.Parameter(torch.ones(20)) for _ in range(2))
    a.grad, b.grad = torch.full((20,), torch.nan), torch.ones(20)
    getattr(kudari.optim, name)([a, b]).step()
    assert a.detach().isnan().any()
    assert b.detach().isfinite().all()


@pytest.mark.parametrize("name", ["NAdam", "RAdam", "Adamax", "Adan", "ADOPT", "AdEMAMix", "AdamAtan2"])
def test_a_cautious_step_is_the_plain_direction_masked_by_the_gradient(name, ours):
    """Without decay the plain step is -lr times the direction, which is then masked here."""
    lr, steps = 0.01, 8
    found, _ = trajectory(ours(name, lr=lr, cautious=True), steps)
    expected = [p.detach().numpy() for p in start()]
    states = [{} for _ in expected]
    for step in range(steps):
        for i, g in enumerate(g.numpy() for g in gradients(step)):
            if g.size:
                p = expected[i]
                # From zero, so that the direction is not lost in the rounding of a large p.
                u = -ORACLES[name](np.zeros_like(p), g, states[i], lr=lr, weight_decay=0.0) / lr
                expected[i] = p - lr * cautious_mask(u, g)
    plain, _ = trajectory(ours(name, lr=lr), steps)
    assert not torch.equal(plain[0], found[0])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-9, atol=1e-11)
