"""A group's own numbers on the device, for CUDA graphs: Prodigy's and Schedule-Free's; interpreted."""

import copy
import json

import pytest
import torch

import kudari.optim
from kudari.optim import optimizer as optimizer_module
from tests.cpu.optim.conftest import build, gradients, start
from tests.cpu.optim.interpreted import interpreter, needs_triton, on_gpu, without_gpu
from tests.cpu.optim.test_triton_launch import no_reading, prepared

__all__ = ["interpreter", "on_gpu"]
SHAPES = [(17,), (3, 5), ()]
CASES = [
    ("Prodigy", {"d0": 1e-3}),
    ("Prodigy", {"d0": 1e-3, "growth_rate": 1.5, "use_bias_correction": True, "safeguard_warmup": True}),
    ("ScheduleFreeSGD", {"warmup_steps": 3}),
    ("ScheduleFreeAdamW", {"warmup_steps": 3, "lr": torch.tensor(0.01)}),
]
pytestmark = needs_triton


def numbers(optimizer):
    return [{r.name: group[r.name] for r in optimizer.rule.running} for group in optimizer.param_groups]


def steps(name, count=4, forbidden=(), **kw):
    """Parameters and numbers of two groups after some steps, of which some are forbidden by a flag."""
    params = start(torch.float64, SHAPES)
    optimizer = build(name, [{"params": params[:2]}, {"params": params[2:]}], **copy.deepcopy(kw))
    for step in range(count):
        for p, g in zip(params, gradients(step, torch.float64, SHAPES), strict=True):
            p.grad = g
        optimizer.found_inf = torch.tensor([1.0]) if step in forbidden else None
        optimizer.step()
    return [p.detach() for p in params], optimizer


@pytest.mark.parametrize(("name", "kw"), CASES, ids=str)
def test_numbers_on_the_device_are_those_of_the_host(name, kw, on_gpu):
    params, optimizer = steps(name, **kw, capturable=True)
    expected, same = without_gpu(lambda: steps(name, **kw))
    for a, b in zip(params, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    for ours, theirs in zip(numbers(optimizer), numbers(same), strict=True):
        assert all(isinstance(x, torch.Tensor) and x.dtype is torch.float64 for x in ours.values())
        assert not any(isinstance(x, torch.Tensor) for x in theirs.values())
        assert {k: float(x) for k, x in ours.items()} == pytest.approx(theirs, rel=1e-11)


@pytest.mark.parametrize(("name", "kw"), CASES, ids=str)
def test_the_host_waits_for_nothing_and_a_graph_may_take_the_step_up(name, kw, on_gpu, monkeypatch):
    _, optimizer = prepared(name, torch.float64, **copy.deepcopy(kw), capturable=True)
    before = [(x, x.data_ptr(), x.item()) for x in numbers(optimizer)[0].values()]
    monkeypatch.setattr(optimizer_module, "capturing", lambda device: True)
    with no_reading():
        optimizer.step()
    after = list(numbers(optimizer)[0].values())
    assert all(x is y and x.data_ptr() == at for (x, at, _), y in zip(before, after, strict=True))
    assert any(y.item() != value for (_, _, value), y in zip(before, after, strict=True))


@pytest.mark.parametrize(("name", "kw"), CASES, ids=str)
def test_a_forbidden_step_changes_no_number(name, kw, on_gpu):
    found, optimizer = steps(name, 2, **kw, capturable=True)
    forbidden, other = steps(name, 4, forbidden=(2, 3), **kw, capturable=True)
    assert numbers(optimizer) == numbers(other)
    assert all(torch.equal(a, b) for a, b in zip(found, forbidden, strict=True))


@pytest.mark.parametrize(("name", "kw"), CASES, ids=str)
def test_they_are_saved_as_plain_numbers_and_go_on(name, kw, on_gpu):
    kw = {**kw, "lr": 0.01}
    params, optimizer = prepared(name, torch.float64, **kw, capturable=True, steps=2)
    saved = copy.deepcopy(optimizer.state_dict())
    names = [r.name for r in optimizer.rule.running]
    plain = {name: saved["param_groups"][0][name] for name in names}
    assert json.loads(json.dumps(plain)) == {n: float(x) for n, x in numbers(optimizer)[0].items()}
    assert isinstance(plain["k"], int)

    def go_on(second):
        again = build(name, [torch.nn.Parameter(p.detach().clone()) for p in params], **kw, capturable=second)
        again.load_state_dict(copy.deepcopy(saved))
        for p, q in zip(params, again.param_groups[0]["params"], strict=True):
            q.grad = p.grad
        again.step()
        return [p.detach() for p in again.param_groups[0]["params"]]

    resumed, on_the_host = go_on(True), go_on(False)
    optimizer.step()
    for p, q, r in zip(params, resumed, on_the_host, strict=True):
        assert torch.equal(p.detach(), q)
        torch.testing.assert_close(q, r, rtol=1e-12, atol=1e-13)


def test_one_group_that_keeps_its_numbers_on_the_host(on_gpu):
    def run(*capturable):
        params = start(torch.float64, SHAPES)
        groups = [{"params": params[:2]}, {"params": params[2:]}]
        for group, value in zip(groups, capturable, strict=True):
            group["capturable"] = value
        optimizer = kudari.optim.Prodigy(groups, d0=1e-3)
        for step in range(3):
            for p, g in zip(params, gradients(step, torch.float64, SHAPES), strict=True):
                p.grad = g
            optimizer.step()
        return [p.detach() for p in params], [float(group["d"]) for group in optimizer.param_groups]

    mixed, d = run(True, False)
    expected, same = run(False, False)
    assert d == pytest.approx(same, rel=1e-12)
    for a, b in zip(mixed, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
