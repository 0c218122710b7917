"""A step reads and writes what it should whatever happened to parameters, gradients and states before it."""

import copy

import pytest
import torch

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


def test_states_follow_a_parameter_that_changes_its_memory_format_in_the_middle():
    [a], [b] = twins(random(4, 3, 5, 5))
    ours, theirs = build("AdamW", [a], lr=0.1), torch.optim.AdamW([b], lr=0.1)
    for step in range(6):
        if step == 3:
            a.data = a.data.to(memory_format=torch.channels_last)
        a.grad, b.grad = random(4, 3, 5, 5, seed=step), random(4, 3, 5, 5, seed=step)
        ours.step()
        theirs.step()
    assert a.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_a_reloaded_optimizer_of_a_strided_transposed_parameter_goes_on():
    a = torch.nn.Parameter(random(6, 8).t()[::2])
    b = torch.nn.Parameter(a.detach().clone(memory_format=torch.contiguous_format))
    ours, theirs = build("AdamW", [a], lr=0.1), torch.optim.AdamW([b], lr=0.1)
    for step in range(4):
        if step == 2:
            ours.load_state_dict(copy.deepcopy(ours.state_dict()))
        a.grad, b.grad = random(4, 6, seed=step), random(4, 6, seed=step)
        ours.step()
        theirs.step()
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("other", [random(9), random(2), random(2, 2)], ids=lambda x: str(tuple(x.shape)))
def test_states_of_another_shape_are_refused_by_name_and_nothing_is_written(other):
    [small], [p] = twins(random(4))
    small.grad = random(4)
    first = build("AdamW", [small])
    first.step()
    p.data, p.grad = other.clone(), other.clone()
    second = build("AdamW", [p])
    second.load_state_dict(first.state_dict())
    with pytest.raises(RuntimeError, match=r"AdamW: state 'exp_avg' has shape \(4,\)"):
        second.step()
    assert torch.equal(p, other)
    assert second.state[p]["step"] == 1


def test_a_parameter_that_is_cut_short_at_the_same_address_is_bound_anew():
    [p], _ = twins(random(10))
    optimizer = build("SGD", [p], lr=1.0)
    p.grad = random(10)
    optimizer.step()
    whole = p.detach().clone()
    p.data = p.data[:5]
    p.grad = torch.ones(8, dtype=torch.float64)[:5]
    optimizer.step()
    p.data = p.data.as_strided((10,), (1,))
    torch.testing.assert_close(p.data, torch.cat([whole[:5] - 1, whole[5:]]))


def test_a_parameter_that_turns_dense_at_the_same_address_is_updated_itself():
    block = random(12)
    p = torch.nn.Parameter(block[::2][:5])
    optimizer = build("SGD", [p], lr=1.0)
    p.grad = torch.ones(5, dtype=torch.float64)
    optimizer.step()
    before = block.clone()
    p.data = block[:5]
    optimizer.step()
    torch.testing.assert_close(block, torch.cat([before[:5] - 1, before[5:]]))
