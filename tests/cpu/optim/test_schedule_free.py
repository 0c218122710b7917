"""Schedule-Free: gradients at y, evaluation at the average x, and counters that live in the group."""

import copy
import io

import numpy as np
import pytest
import torch

import kudari.optim
from kudari.errors import UnsupportedError
from tests.cpu.optim.conftest import gradients, start
from tests.oracle import ORACLES

SHAPES = [(6, 5), (7,), ()]
BOTH = pytest.mark.parametrize(
    ("name", "kw"),
    [
        ("ScheduleFreeSGD", {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.1, "warmup_steps": 4}),
        ("ScheduleFreeAdamW", {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.1, "r": 1.0}),
    ],
    ids=["sgd", "adamw"],
)


def walk(optimizer, steps, first=0, dtype=torch.float64):
    params = [p for g in optimizer.param_groups for p in g["params"]]
    for step in range(first, first + steps):
        for p, g in zip(params, gradients(step, dtype, SHAPES), strict=True):
            p.grad = g
        optimizer.step()
    return [p.detach().clone() for p in params]


@BOTH
def test_eval_mode_shows_the_average_and_train_mode_goes_back(name, kw):
    params = start(torch.float64, SHAPES)
    optimizer = getattr(kudari.optim, name)(params, **kw)
    optimizer.train()
    expected = [p.detach().numpy().copy() for p in params]
    states = [{} for _ in expected]
    for step in range(12):
        for i, (p, g) in enumerate(zip(params, gradients(step, shapes=SHAPES), strict=True)):
            p.grad = g
            expected[i] = ORACLES[name](expected[i], g.numpy(), states[i], **kw)
        optimizer.step()
        if step % 4 == 3:
            optimizer.eval()
            for p, s in zip(params, states, strict=True):
                np.testing.assert_allclose(p.detach().numpy(), s["x"], rtol=1e-11, atol=1e-12)
            optimizer.train()
        for p, e, s in zip(params, expected, states, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), e, rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose(optimizer.state[p]["z"].numpy(), s["z"], rtol=1e-11, atol=1e-12)
    group = optimizer.param_groups[0]
    assert group["k"] == states[0]["k"] == 12
    assert isinstance(group["k"], int)
    assert group["weight_sum"] == pytest.approx(states[0]["weight_sum"], rel=1e-12)
    assert group["lr_max"] == pytest.approx(states[0]["lr_max"], rel=1e-12)


@BOTH
def test_a_new_optimizer_is_in_eval_mode_and_says_what_to_call(name, kw):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = getattr(kudari.optim, name)([p], **kw)
    with pytest.raises(RuntimeError, match=r"train\(\)"):
        optimizer.step()
    assert torch.equal(p.detach(), torch.ones(3))
    assert not optimizer.state
    optimizer.train()
    optimizer.step()
    optimizer.eval()
    with pytest.raises(UnsupportedError, match=name):
        optimizer.step()


@BOTH
def test_switching_to_the_mode_it_is_in_changes_nothing(name, kw):
    optimizer = getattr(kudari.optim, name)(start(torch.float64, SHAPES), **kw)
    params = optimizer.param_groups[0]["params"]

    def same_after(switch):
        before = [p.detach().clone() for p in params]
        switch()
        return all(torch.equal(a, p.detach()) for a, p in zip(before, params, strict=True))

    assert same_after(optimizer.eval)
    assert same_after(optimizer.train)  # nothing is averaged before the first step
    assert same_after(optimizer.train)
    walk(optimizer, 3)
    assert not same_after(optimizer.eval)
    assert same_after(optimizer.eval)


@BOTH
def test_without_a_gradient_a_tensor_waits_and_then_starts_where_it_is(name, kw):
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = getattr(kudari.optim, name)([p, q], **kw)
    optimizer.train()
    p.grad = torch.ones(3)
    optimizer.step()
    assert q not in optimizer.state
    optimizer.eval()
    optimizer.train()
    assert torch.equal(q.detach(), torch.ones(3))
    q.grad = torch.zeros(3)
    optimizer.step()
    assert optimizer.param_groups[0]["k"] == 2


@BOTH
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_checkpoint_of_either_mode_goes_on_bit_for_bit(name, kw, mode):
    cls = getattr(kudari.optim, name)
    first = cls(start(torch.float32, SHAPES), **kw)
    first.train()
    walk(first, 4, dtype=torch.float32)
    getattr(first, mode)()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    params = [torch.nn.Parameter(p.detach().clone()) for p in first.param_groups[0]["params"]]
    second = cls(params)
    second.load_state_dict(torch.load(file, weights_only=True))
    for optimizer in (first, second):
        optimizer.train()
    a, b = (walk(o, 4, 4, torch.float32) for o in (first, second))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    for key in ("k", "weight_sum", "lr_max", "train_mode"):
        assert first.param_groups[0][key] == second.param_groups[0][key]


@BOTH
def test_groups_count_for_themselves_and_a_late_group_has_the_mode_of_the_others(name, kw):
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = getattr(kudari.optim, name)([p], **kw)
    optimizer.train()
    p.grad = torch.ones(3)
    optimizer.step()
    optimizer.add_param_group({"params": [q], "lr": 0.01})
    q.grad = torch.ones(3)
    optimizer.step()
    assert [g["k"] for g in optimizer.param_groups] == [2, 1]
    assert copy.deepcopy(optimizer).param_groups[1]["k"] == 1


@BOTH
def test_a_skipped_step_does_not_count(name, kw):
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = getattr(kudari.optim, name)([p], **kw)
    optimizer.train()
    optimizer.found_inf = torch.tensor(1.0)
    optimizer.step()
    assert optimizer.param_groups[0]["k"] == 0
    assert not optimizer.state


def test_a_learning_rate_of_zero_leaves_everything_finite_and_in_place():
    for name in ("ScheduleFreeSGD", "ScheduleFreeAdamW"):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = getattr(kudari.optim, name)([p], lr=0.0)
        optimizer.train()
        for _ in range(3):
            p.grad = torch.ones(3)
            optimizer.step()
        assert torch.equal(p.detach(), torch.ones(3))
