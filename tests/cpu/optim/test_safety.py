"""A step reads and writes what it should whatever happened to parameters, gradients and states before it."""

import copy

import pytest
import torch

import kudari.optim
from tests.cpu.optim.conftest import build


def twins(*values, **kw):
    """Parameters for us and for torch, with equal values."""
    ours = [torch.nn.Parameter(v.clone(), **kw) for v in values]
    return ours, [torch.nn.Parameter(v.detach().clone(memory_format=torch.contiguous_format)) for v in ours]


def random(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[torch.float64, torch.bfloat16], ids=str)
def default_dtype(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("default_dtype")
@pytest.mark.parametrize("name", ["SGD", "NAdam"])
def test_torchs_default_dtype_does_not_reset_momentum_at_a_rebinding(name):
    [a], [b] = twins(random(3))
    kw = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {"lr": 0.1}
    ours, theirs = build(name, [a], **kw), getattr(torch.optim, name)([b], **kw)
    for step in range(6):
        a.grad, b.grad = random(3, seed=step), random(3, seed=step)
        if step == 3:
            ours.load_state_dict(copy.deepcopy(ours.state_dict()))
        ours.step()
        theirs.step()
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "NAdam", "AdamW"])
def test_counters_are_on_the_cpu_whatever_torchs_default_device(name):
    [p], _ = twins(random(3))
    p.grad = random(3, seed=1)
    try:
        torch.set_default_device("meta")
        optimizer = build(name, [p], **({"momentum": 0.9} if name == "SGD" else {}))
        optimizer.step()
    finally:
        torch.set_default_device(None)
    assert all(s.device.type == "cpu" for s in optimizer.state[p].values())
    assert p.isfinite().all()
