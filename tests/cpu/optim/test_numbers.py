"""The numbers beside the exam: against torch, complex tensors, and layouts of a kind of their own."""

import pytest
import torch

import kudari.optim
from tests.cpu.optim.cases import IN_TORCH, IN_TORCH_IDS, NEAR_TORCH, ONE_EACH, SHAPES
from tests.cpu.optim.conftest import build, gradients, start, trajectory

# torch's Adafactor divides by the size of a tensor without elements; test_coupled.py has it without one.
whole = [(case, label) for case, label in zip(IN_TORCH, IN_TORCH_IDS, strict=True) if case[0] != "Adafactor"]
torch_case = pytest.mark.parametrize(("name", "kw"), [c for c, _ in whole], ids=[i for _, i in whole])
ELEMENTWISE = [(name, kw) for name, kw in ONE_EACH if not getattr(kudari.optim, name)._couples]


def distance(moved, origin):
    return max((a - b).abs().max().item() for a, b in zip(moved, origin, strict=True) if a.numel())


@torch_case
@pytest.mark.parametrize("maximize", [False, True])
def test_float64_equals_torch_to_1e12(name, kw, maximize, ours):
    found, _ = trajectory(ours(name, maximize=maximize, **kw))
    expected, _ = trajectory(
        lambda ps: getattr(torch.optim, name)(ps, maximize=maximize, foreach=False, **kw)
    )
    moved = distance(found, [p.detach() for p in start()])
    for a, b in zip(found, expected, strict=True):
        close = NEAR_TORCH.get(name, 1e-12)
        torch.testing.assert_close(a, b, rtol=close, atol=close * moved)


def test_gradient_with_zero_strides_counts_in_full():
    a, b = (torch.nn.Parameter(torch.ones(6, 5)) for _ in range(2))
    a.grad, b.grad = torch.full((6, 5), 0.5), torch.tensor(0.5).expand(6, 5)
    for p in (a, b):
        kudari.optim.AdamW([p]).step()
    assert torch.equal(a.detach(), b.detach())


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adafactor", "LAMB", "Prodigy", "Muon", "Shampoo"])
@pytest.mark.parametrize("kw", [{}, {"state_dtype": "8bit"}, {"rounding": "stochastic"}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_float64_gradient_of_a_narrower_parameter_counts_like_its_float32(name, kw, dtype):
    shapes = [(64, 65), (5,)]
    found = []
    for wide in (torch.float64, torch.float32):
        torch.manual_seed(0)
        params = start(dtype, shapes)
        optimizer = getattr(kudari.optim, name)(params, **kw)
        for step in range(2):
            for p, g in zip(params, gradients(step, torch.float32, shapes), strict=True):
                p.grad_dtype = None
                p.grad = g.to(wide)
            optimizer.step()
        found.append(params)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a.detach(), b.detach())


def test_channels_last_weights_are_updated_in_place():
    a = torch.nn.Parameter(torch.randn(4, 3, 3, 3))
    b = torch.nn.Parameter(a.detach().clone(memory_format=torch.channels_last))
    first, second = kudari.optim.AdamW([a]), kudari.optim.AdamW([b])
    for step in range(3):
        a.grad = gradients(step, torch.float32, [(4, 3, 3, 3)])[0]
        b.grad = a.grad.contiguous(memory_format=torch.channels_last)
        first.step()
        second.step()
    assert torch.equal(a.detach(), b.detach())
    assert b.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("name", "kw"), ELEMENTWISE, ids=[name for name, _ in ELEMENTWISE])
def test_complex_parameters_are_twice_as_many_reals(name, kw, ours):
    shape = (5, 7)
    data = torch.view_as_complex(start(torch.float32, [(*shape, 2)])[0].detach())
    z = torch.nn.Parameter(data.clone())
    x = torch.nn.Parameter(torch.view_as_real(data).clone())
    first, second = ours(name, **kw)([z]), ours(name, **kw)([x])
    for step in range(3):
        x.grad = gradients(step, torch.float32, [(*shape, 2)])[0]
        z.grad = torch.view_as_complex(x.grad)
        first.step()
        second.step()
    assert torch.equal(torch.view_as_real(z.detach()), x.detach())


def test_first_adam_step_has_the_size_of_lr():
    p = torch.nn.Parameter(torch.zeros(4))
    p.grad = torch.tensor([1e-3, -1.0, 1e3, 0.0])
    kudari.optim.Adam([p], lr=0.1).step()
    torch.testing.assert_close(p.detach(), torch.tensor([-0.1, 0.1, -0.1, 0.0]), rtol=1e-4, atol=0)


def test_t_counts_the_gradients_of_each_tensor():
    a, b = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = kudari.optim.AdamW([a, b])
    for step in range(4):
        a.grad = torch.ones(3)
        b.grad = torch.ones(3) if step == 3 else None
        optimizer.step()
    assert optimizer.state[a]["step"] == 4
    assert optimizer.state[b]["step"] == 1
    fresh = torch.nn.Parameter(torch.ones(3))
    fresh.grad = torch.ones(3)
    kudari.optim.AdamW([fresh]).step()
    assert torch.equal(fresh.detach(), b.detach())


@pytest.mark.parametrize("name", list(kudari.optim.CLASSES))
def test_every_class_that_keeps_a_count_counts_the_gradients_of_each_tensor(name):
    a, b = start(torch.float64, [(4, 3), (5,)])
    optimizer = build(name, [a, b])
    for step in range(4):
        a.grad, b.grad = torch.ones_like(a), torch.ones_like(b) if step % 2 else None
        optimizer.step()
    found = [optimizer.state[p].get("step") for p in (a, b)]
    without = {"SGD", "LARS", "Lion", "ScheduleFreeSGD", "ScheduleFreeAdamW"}
    assert found == ([None, None] if name in without else [None if name == "Muon" else 4, 2])


# Reads and writes in bytes, from the arrays a formula names: four for each array read and each written.
BYTES = {"SGD": 12, "Adagrad": 20, "Lion": 20, "RMSprop": 20, "Adadelta": 28, "Adam": 28, "AdamW": 28,
         "NAdam": 28, "RAdam": 28, "Adamax": 28, "ADOPT": 28, "AdamAtan2": 28, "AdEMAMix": 36, "Adan": 44,
         "SophiaG": 24, "SophiaH": 24, "ScheduleFreeSGD": 20, "ScheduleFreeAdamW": 28}  # fmt: skip


def test_no_formula_touches_an_array_more_than_once():
    rules = {rule.name: rule for rule in kudari.optim.rules()}
    assert {name: kudari.optim.describe(rules[name]).bytes_per_parameter for name in BYTES} == BYTES
    rmsprop = kudari.optim.describe(rules["RMSprop"], {"momentum": 0.9, "centered": True})
    assert rmsprop.bytes_per_parameter == 36


def test_shapes_cover_the_edges_of_vectors():
    assert {7, 8, 9, 15, 16, 17} <= {s[0] for s in SHAPES if len(s) == 1}
