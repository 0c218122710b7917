"""What rides along with a step gives the numbers that it gives beside the step."""

import copy

import pytest
import torch

import kudari.optim
from kudari.errors import ArgumentError, HyperError, UnsupportedError
from tests.cpu.optim.conftest import build

NAMES = ("SGD", "AdamW", "Lion", "LAMB", "StableAdamW", "ScheduleFreeAdamW", "AdEMAMix")


def model(seed=0):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)
    return torch.nn.Sequential(*layers).double()


def backward(net, step):
    gen = torch.Generator().manual_seed(step)
    net(torch.randn(8, 5, dtype=torch.double, generator=gen)).square().sum().backward()


def groups(net):
    return [{"params": [net[0].weight, net[0].bias]}, {"params": [net[2].weight, net[2].bias], "lr": 0.02}]


def close(a, b):
    """Float64 rounding of 12 steps; the clipping factor is rounded in another order than torch's."""
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_clipping_in_the_step_equals_clip_grad_norm_before_it(name):
    a, b = model(), model()
    ours = kudari.optim.fuse(build(name, groups(a), lr=0.1), clip_norm=0.5)
    beside = build(name, groups(b), lr=0.1)
    for step in range(12):
        a.zero_grad()
        b.zero_grad()
        backward(a, step)
        backward(b, step)
        before = [p.grad.clone() for p in a.parameters()]
        norm = torch.nn.utils.clip_grad_norm_(b.parameters(), 0.5)
        ours.step()
        beside.step()
        assert all(torch.equal(g, p.grad) for g, p in zip(before, a.parameters(), strict=True))
        assert kudari.optim.grad_norm(ours) == pytest.approx(norm.item(), rel=1e-14)
    close(a, b)


def test_a_norm_below_the_limit_changes_no_bit():
    a, b = model(), model()
    ours, plain = (
        kudari.optim.fuse(build("AdamW", a.parameters()), clip_norm=1e6),
        build("AdamW", b.parameters()),
    )
    for step in range(3):
        backward(a, step)
        backward(b, step)
        ours.step()
        plain.step()
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_schedule_may_change_the_limit_without_compiling_anything_anew():
    [w] = [torch.nn.Parameter(torch.zeros(2))]
    optimizer = kudari.optim.fuse(build("SGD", [w], lr=1.0), clip_norm=1.0)
    w.grad = torch.tensor([3.0, 4.0])
    optimizer.step()
    bound = optimizer._bound[0]
    optimizer.param_groups[0]["clip_norm"] = 2.5
    optimizer.step()
    assert optimizer._bound[0] is bound
    torch.testing.assert_close(w.data, torch.tensor([-0.6 - 1.5, -0.8 - 2.0]))


@pytest.mark.parametrize("name", NAMES)
def test_the_average_follows_the_parameters_as_they_are_after_each_step(name):
    net = model()
    optimizer = kudari.optim.fuse(build(name, net.parameters(), lr=0.1), ema_decay=0.9)
    expected = [p.detach().clone() for p in net.parameters()]
    for step in range(6):
        optimizer.zero_grad()
        backward(net, step)
        optimizer.step()
        for x, p in zip(expected, net.parameters(), strict=True):
            x.mul_(0.9).add_(p.detach(), alpha=0.1)
    before = [p.detach().clone() for p in net.parameters()]
    with kudari.optim.averaged(optimizer):
        for x, p in zip(expected, net.parameters(), strict=True):
            torch.testing.assert_close(p.data, x, rtol=0, atol=1e-14)
    assert all(torch.equal(x, p) for x, p in zip(before, net.parameters(), strict=True))


def test_the_average_of_bfloat16_weights_is_kept_in_float32():
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = kudari.optim.fuse(build("SGD", [w], lr=0.25), ema_decay=0.999)
    w.grad = torch.ones_like(w)
    optimizer.step()
    assert optimizer.state[w]["ema"].dtype is torch.float32
    torch.testing.assert_close(optimizer.state[w]["ema"], torch.full((3,), 1 - 0.00025))
    with kudari.optim.averaged(optimizer):
        assert w.dtype is torch.bfloat16
        assert w[0] == 1.0
    assert w[0] == 0.75


def test_a_step_on_averages_is_refused_and_nothing_is_written():
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = kudari.optim.fuse(build("SGD", [w], lr=1.0), ema_decay=0.5)
    w.grad = torch.ones(2)
    optimizer.step()
    with kudari.optim.averaged(optimizer), pytest.raises(UnsupportedError, match="averaged"):
        optimizer.step()
    assert w.tolist() == [0.0, 0.0]
    optimizer.step()
    assert w.tolist() == [-1.0, -1.0]
    assert optimizer.state[w]["ema"].tolist() == [-0.25, -0.25]


@pytest.mark.parametrize("layout", ["dense", "strided"])
@pytest.mark.parametrize("name", ["SGD", "LAMB"])
def test_gradients_are_cleared_after_they_are_read(name, layout):
    a, b = torch.randn(6, 4), torch.randn(6, 4)
    p, q = torch.nn.Parameter(a.clone()), torch.nn.Parameter(a.clone())
    p.grad = b.clone() if layout == "dense" else b.t().contiguous().t()
    q.grad = b.clone()
    kept, version = p.grad, p.grad._version
    kudari.optim.fuse(build(name, [p], lr=0.1), zero_grad=True).step()
    build(name, [q], lr=0.1).step()
    assert torch.equal(p, q)
    assert p.grad is kept
    assert not kept.any()
    assert kept._version > version


def test_everything_at_once_survives_a_checkpoint_bit_for_bit():
    def fused(net):
        optimizer = build("AdamW", net.parameters(), lr=0.1)
        return kudari.optim.fuse(optimizer, clip_norm=0.3, ema_decay=0.9, zero_grad=True)

    a = model()
    first = fused(a)
    for step in range(3):
        backward(a, step)
        first.step()
    b, second = copy.deepcopy(a), None
    second = build("AdamW", b.parameters())
    second.load_state_dict(first.state_dict())
    for net, optimizer in ((a, first), (b, second)):
        backward(net, 7)
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert all(torch.equal(first.state[p]["ema"], second.state[q]["ema"])
               for p, q in zip(a.parameters(), b.parameters(), strict=True))  # fmt: skip


def test_mistakes_are_named():
    optimizer = build("AdamW", model().parameters())
    with pytest.raises(HyperError, match=r"AdamW: clip_norm=-1.0 is not allowed"):
        kudari.optim.fuse(optimizer, clip_norm=-1.0)
    with pytest.raises(HyperError, match=r"ema_decay=1.5 is not allowed; expected 0 <= ema_decay <= 1"):
        kudari.optim.fuse(optimizer, ema_decay=1.5)
    with pytest.raises(ArgumentError, match="keeps no average"), kudari.optim.averaged(optimizer):
        pass
    assert kudari.optim.grad_norm(optimizer) is None


# --- the step inside the backward pass


@pytest.mark.parametrize("name", NAMES)
def test_steps_inside_the_backward_pass_change_no_bit(name):
    a, b = model(), model()
    inside, after = build(name, groups(a), lr=0.1), build(name, groups(b), lr=0.1)
    release = kudari.optim.GradientRelease(inside)
    for step in range(6):
        backward(a, step)
        assert all(p.grad is None for p in a.parameters())
        inside.step()
        after.zero_grad()
        backward(b, step)
        after.step()
    release.remove()
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_release_accumulates_and_clips_like_the_ordinary_loop():
    a, b = model(), model()
    inside, after = build("AdamW", groups(a), lr=0.1), build("AdamW", groups(b), lr=0.1)
    release = kudari.optim.GradientRelease(inside)
    for step in range(6):
        with release.accumulate():
            backward(a, 2 * step)
        gen = torch.Generator().manual_seed(2 * step + 1)
        loss = a(torch.randn(8, 5, dtype=torch.double, generator=gen)).square().sum()
        found = release.backward(loss, clip_norm=0.5)
        after.zero_grad()
        backward(b, 2 * step)
        backward(b, 2 * step + 1)
        norm = torch.nn.utils.clip_grad_norm_(b.parameters(), 0.5)
        after.step()
        assert found.item() == pytest.approx(norm.item(), rel=1e-12)
    close(a, b)
    assert all(inside.state[p]["step"] == 6 for p in a.parameters())


def test_a_tensor_that_the_last_loss_does_not_reach_still_takes_its_accumulated_step():
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = build("SGD", [a, b], lr=1.0)
    release = kudari.optim.GradientRelease(optimizer)
    with release.accumulate():
        (3 * a.sum()).backward()
    norm = release.backward(4 * b.sum(), clip_norm=1.0)
    assert norm.item() == pytest.approx(50**0.5)
    torch.testing.assert_close(a.data, torch.full((2,), 1 - 3 / 50**0.5))
    torch.testing.assert_close(b.data, torch.full((2,), 1 - 4 / 50**0.5))
    assert a.grad is None
    assert b.grad is None


def test_release_goes_on_after_a_checkpoint_is_loaded():
    a = model()
    optimizer = build("AdamW", a.parameters(), lr=0.1)
    kudari.optim.GradientRelease(optimizer)
    backward(a, 0)
    saved = copy.deepcopy(optimizer.state_dict())
    weights = copy.deepcopy(a.state_dict())
    backward(a, 1)
    end = [p.detach().clone() for p in a.parameters()]
    optimizer.load_state_dict(saved)
    a.load_state_dict(weights)
    backward(a, 1)
    assert all(torch.equal(x, p) for x, p in zip(end, a.parameters(), strict=True))


def test_rules_that_need_all_gradients_at_once_are_refused():
    with pytest.raises(UnsupportedError, match="cannot step during the backward pass"):
        kudari.optim.GradientRelease(build("LAMB", model().parameters(), variant="nvlamb"))
    clipping = kudari.optim.fuse(build("AdamW", model().parameters()), clip_norm=1.0)
    with pytest.raises(UnsupportedError, match=r"GradientRelease\.backward"):
        kudari.optim.GradientRelease(clipping)
