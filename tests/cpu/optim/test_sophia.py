"""Sophia: the curvature comes in beside the steps, from sampled gradients or from Hessian products."""

import numpy as np
import pytest
import torch

import kudari.optim
from tests.cpu.optim.conftest import gradients, start
from tests.oracle import ORACLES

SHAPES = [(6, 5), (7,), ()]
KW = {"lr": 0.01, "betas": (0.9, 0.8), "weight_decay": 0.1, "eps": 1e-3}


@pytest.mark.parametrize("name", ["SophiaG", "SophiaH"])
@pytest.mark.parametrize("maximize", [False, True])
def test_float64_equals_the_numpy_transcription_with_a_new_curvature_every_third_step(name, maximize):
    params = start(torch.float64, SHAPES)
    optimizer = getattr(kudari.optim, name)(params, maximize=maximize, **KW)
    expected = [p.detach().numpy().copy() for p in params]
    states = [{} for _ in expected]
    sign = -1 if maximize else 1
    for step in range(20):
        if step % 3 == 0:
            found = gradients(100 + step, shapes=SHAPES)
            for p, s, x in zip(params, states, found, strict=True):
                p.grad = x
                e = sign * x.numpy() if name == "SophiaH" else x.numpy() ** 2
                s["h"] = 0.8 * s.get("h", 0.0) + 0.2 * e
            optimizer.update_hessian(**({"hessian": found} if name == "SophiaH" else {}))
        for i, (p, g) in enumerate(zip(params, gradients(step, shapes=SHAPES), strict=True)):
            p.grad = g
            expected[i] = ORACLES[name](expected[i], sign * g.numpy(), states[i], **KW)
        optimizer.step()
    for p, e, s in zip(params, expected, states, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), e, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(optimizer.state[p]["hessian"].numpy(), s["h"], rtol=1e-12)
        assert optimizer.state[p]["step"] == 20


def test_update_hessian_moves_nothing_counts_nothing_and_reads_only_what_it_is_given():
    p, idle = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    p.grad = torch.tensor([1.0, -2.0, 0.0])
    optimizer = kudari.optim.SophiaG([p, idle], betas=(0.9, 0.5))
    version = p._version
    optimizer.update_hessian()
    assert torch.equal(p.detach(), torch.ones(3))
    assert p._version == version
    assert optimizer.state[p]["step"] == 0
    assert torch.equal(optimizer.state[p]["hessian"], torch.tensor([0.5, 2.0, 0.0]))
    assert idle not in optimizer.state
    assert torch.equal(p.grad, torch.tensor([1.0, -2.0, 0.0]))


def test_first_steps_without_curvature_have_the_size_of_lr():
    for name in ("SophiaG", "SophiaH"):
        p = torch.nn.Parameter(torch.zeros(3))
        p.grad = torch.tensor([1e-3, -5.0, 0.0])
        getattr(kudari.optim, name)([p], lr=0.1).step()
        torch.testing.assert_close(p.detach(), torch.tensor([-0.1, 0.1, 0.0]))


def test_the_number_of_samples_may_be_given_for_one_step():
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    first = kudari.optim.SophiaG([a], lr=0.1, bs=64, rho=0.5)
    second = kudari.optim.SophiaG([b], lr=0.1, bs=2, rho=0.5)
    for p, optimizer in ((a, first), (b, second)):
        p.grad = torch.tensor([1.0, 2.0, 3.0])
        optimizer.update_hessian()
    first.step(bs=2)
    second.step()
    assert torch.equal(a.detach(), b.detach())
    assert first.param_groups[0]["bs"] == 64
    with pytest.raises(ValueError, match=r"SophiaG: bs=0 is not allowed; expected bs > 0"):
        first.step(bs=0)


def test_hooks_run_once_and_a_closure_is_called_once():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = kudari.optim.SophiaG([p])
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append("hook"))

    def closure():
        seen.append("closure")
        p.grad = torch.ones(2)
        return 3.0

    assert optimizer.step(closure) == 3.0
    assert seen == ["closure", "hook"]


def quadratic():
    """A loss of three tensors whose Hessian is diagonal, one that it is linear in, one it does not have."""
    x, y, linear, unused = (torch.nn.Parameter(torch.ones(4, dtype=torch.float64)) for _ in range(4))
    curvature = torch.tensor([1.0, -2.0, 3.0, 0.0], dtype=torch.float64)
    loss = (curvature * x**2).sum() / 2 + (y**3).sum() + linear.sum()
    return loss, (x, y, linear, unused), curvature


def test_signs_as_probes_are_exact_where_the_hessian_is_diagonal():
    loss, params, curvature = quadratic()
    optimizer = kudari.optim.SophiaH(params, betas=(0.9, 0.0))
    optimizer.update_hessian(loss)
    x, y, linear, unused = params
    assert torch.equal(optimizer.state[x]["hessian"], curvature)
    assert torch.equal(optimizer.state[y]["hessian"], torch.full((4,), 6.0, dtype=torch.float64))
    assert torch.equal(optimizer.state[linear]["hessian"], torch.zeros(4, dtype=torch.float64))
    assert unused not in optimizer.state
    assert all(p.grad is None for p in params)
    assert not any(v.requires_grad for s in optimizer.state.values() for v in s.values())


def test_probes_average_to_the_diagonal_and_follow_their_generator():
    torch.manual_seed(0)
    matrix = torch.randn(5, 5, dtype=torch.float64)
    matrix = matrix @ matrix.T
    found = {}
    for probe in ("rademacher", "gaussian"):
        for seed in (0, 0, 1):
            p = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
            optimizer = kudari.optim.SophiaH([p], betas=(0.9, 0.0), probe=probe)
            generator = torch.Generator().manual_seed(seed)
            optimizer.update_hessian(p @ matrix @ p / 2, n_probes=400, generator=generator)
            found.setdefault((probe, seed), []).append(optimizer.state[p]["hessian"])
        # The spread of one estimate is at most sqrt(2) |row|; five spreads of the mean of 400.
        spread = 5 * (2 / 400) ** 0.5 * matrix.norm(dim=1)
        assert ((found[probe, 0][0] - matrix.diagonal()).abs() < spread).all()
        assert torch.equal(*found[probe, 0])
        assert not torch.equal(found[probe, 0][0], found[probe, 1][0])


def test_half_precision_and_complex_tensors_have_an_estimate_too():
    for dtype in (torch.bfloat16, torch.complex64):
        p = torch.nn.Parameter(torch.ones(4, dtype=dtype))
        optimizer = kudari.optim.SophiaH([p], betas=(0.9, 0.0))
        loss = (p.abs() ** 2).sum() if dtype.is_complex else (p * p).sum()
        optimizer.update_hessian(loss, n_probes=3)
        h = optimizer.state[p]["hessian"]
        expected = torch.full((4,), 2.0) if h.dtype is torch.float32 else torch.full((4,), 2 + 2j)
        torch.testing.assert_close(h, expected)


def test_unusable_estimates_are_refused():
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = kudari.optim.SophiaH([p])
    for arguments in (
        {},
        {"loss": (p * p).sum(), "hessian": [torch.ones(4)]},
        {"hessian": []},
        {"hessian": [torch.ones(3)]},
        {"loss": (p * p).sum(), "n_probes": 0},
    ):
        with pytest.raises(ValueError, match="SophiaH"):
            optimizer.update_hessian(**arguments)
    optimizer.update_hessian(hessian=[None])
    assert not optimizer.state
