"""Rules with norms and means: the kernel's sums against NumPy's, for any threads and sizes."""

import numpy as np
import pytest
import torch

from kudari.compile import plan
from kudari.compile.notation import Step, hyper, maximum, mean, norm, rule, state, where
from kudari.optim import make_class


@rule(name="Normed", source="a test: a step of the length of the parameter, over centred gradients")
def normed(p, g, b=state("sums"), *, lr=hyper(0.1, at_least=0)):
    centred = g - mean(g)
    size = norm(centred)
    b_t = b + abs(centred)
    return Step(p=p - lr * norm(p) * centred / where(size > 0, size, 1), b=b_t / maximum(1, mean(b_t)))


Normed = make_class(normed)


def oracle(p, g, b, lr):
    if p.size == 0:
        return p, b
    centred = g - g.mean()
    size = np.linalg.norm(centred)
    b = b + np.abs(centred)
    return p - lr * np.linalg.norm(p) * centred / (size or 1.0), b / max(1.0, b.mean())


SHAPES = [(300, 301), (5,), (), (0, 2), (1,), (65_537,), (8,), (17,)]


def run(dtype, threads, steps=4):
    torch.set_num_threads(threads)
    gen = torch.Generator().manual_seed(0)
    params = [
        torch.nn.Parameter(torch.randn(s, dtype=torch.float64, generator=gen).to(dtype)) for s in SHAPES
    ]
    expected = [(p.detach().double().numpy(), np.zeros(p.shape)) for p in params]
    optimizer = Normed(params, lr=0.1)
    for _ in range(steps):
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, dtype=torch.float64, generator=gen).to(dtype)
            expected[i] = oracle(expected[i][0], p.grad.double().numpy(), expected[i][1], 0.1)
        optimizer.step()
    torch.set_num_threads(1)
    return [p.detach() for p in params], [p for p, _ in expected]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_sums_equal_numpys(dtype, tolerance):
    found, expected = run(dtype, 1)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.double().numpy(), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sums_have_the_same_bits_for_one_and_two_threads(dtype, monkeypatch):
    monkeypatch.setattr(plan, "PER_THREAD", 1)
    assert all(torch.equal(a, b) for a, b in zip(run(dtype, 1)[0], run(dtype, 2)[0], strict=True))


def test_lanes_beyond_the_end_add_nothing():
    @rule(name="Ones", source="a test: the number of elements, counted by summing exp(0)")
    def ones(p, g, *, lr=hyper(1.0)):
        from kudari.compile.notation import exp, tensor_sum

        return Step(p=p * 0 + lr * tensor_sum(exp(g * 0)))

    for size in (1, 7, 8, 9, 40_001):
        p = torch.nn.Parameter(torch.ones(size, dtype=torch.float64))
        p.grad = torch.ones_like(p)
        make_class(ones)([p]).step()
        assert torch.equal(p.detach(), torch.full_like(p, size))


def test_a_tensor_subclass_sums_the_same_on_the_eager_road():
    class Marked(torch.nn.Parameter):
        pass

    results = []
    for make in (torch.nn.Parameter, Marked):
        p = make(torch.linspace(-1, 2, 50))
        optimizer = Normed([p])
        for step in range(3):
            p.grad = torch.linspace(0, 1, 50) ** (step + 1)
            if make is Marked and step == 0:
                with pytest.warns(UserWarning, match="plain torch operations"):
                    optimizer.step()
            else:
                optimizer.step()
        results.append(p.detach().as_subclass(torch.Tensor))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)
