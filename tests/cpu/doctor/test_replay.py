"""A loss that is not finite is traced to the operation, the module and the line: the batch is run again."""

from pathlib import Path

import pytest
import torch
from torch import nn

from kudari.doctor.track.replay import replay
from kudari.doctor.watching import watch

MASK = torch.triu(torch.ones(4, 4), 1).bool()


class Step(nn.Module):
    """A model of one function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def find(function, x=None, slopes=False):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), Step(function))
    return replay(net, (torch.randn(4, 4) if x is None else x,), {}, slopes)


@pytest.mark.parametrize(
    ("function", "cause", "operation"),
    [
        (lambda x: torch.log(x) * 2, "log", "log"),
        (lambda x: x.sqrt().mean(), "sqrt", "sqrt"),
        (lambda x: x / (x - x), "division", "div"),
        (lambda x: (x * 1000).exp() / (x * 1000).exp().sum(1, keepdim=True), "overflow", "exp"),
        (lambda x: x**0.5, "power", "pow"),
        (lambda x: torch.acos(x.abs() + 1), "range", "acos"),
    ],
)
def test_the_first_operation_that_breaks_is_named_with_its_module(function, cause, operation):
    origin = find(function)
    assert (origin.cause, origin.operation) == (cause, operation)
    assert (origin.module, origin.kind) == ("1", "Step")
    assert origin.site.code is function.__code__


def test_masks_are_no_origin():
    assert find(lambda x: (x @ x.T + torch.zeros(4, 4).masked_fill(MASK, -torch.inf)).softmax(1)) is None
    origin = find(lambda x: (x @ x.T).masked_fill(MASK, -torch.inf).softmax(1).log().log().mean())
    assert origin.operation == "log"


def test_an_infinite_slope_is_found_where_the_value_is_finite():
    origin = find(lambda x: (x - x.detach()).pow(2).sqrt(), slopes=True)
    assert (origin.operation, origin.module, origin.detail) == ("sqrt", "1", "sqrt of 0")
    assert find(lambda x: ((x - x.detach()).pow(2).sum(1) + 1e-8).sqrt(), slopes=True) is None


def test_a_batch_that_is_not_finite_is_the_origin():
    assert find(lambda x: x, torch.full((4, 4), torch.nan)).cause == "input"


class Bounded(nn.Module):
    """Breaks at the twentieth step, inside."""

    def __init__(self, broken):
        super().__init__()
        self.inner, self.broken = nn.Linear(4, 4), broken

    def forward(self, x):
        h = self.inner(x)
        return self.broken(h, x)


def train(broken):
    torch.manual_seed(0)
    net = nn.Sequential(Bounded(broken), nn.Linear(4, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    with watch() as doctor:
        for step in range(30):
            x = torch.randn(8, 4) * (step != 20)
            optimizer.zero_grad()
            net(x).pow(2).mean().backward()
            optimizer.step()
    assert doctor.run.stream.failures == []
    (finding,) = [f for f in doctor.findings if f.fault == "nan-origin"]
    return finding, Path(finding.file).read_text().splitlines()[finding.line - 1].strip()


def test_a_run_names_module_and_line_of_a_value():
    def ratio(h, x):
        return h / (x.abs().sum() > 0)

    finding, line = train(ratio)
    assert line == "return h / (x.abs().sum() > 0)"
    assert finding.evidence["first_step"] == 20
    assert (finding.evidence["cause"], finding.evidence["module"]) == ("division", "0")
    assert "in 0 (Bounded)" in finding.message


def test_a_run_names_module_and_line_of_a_slope():
    def length(h, x):
        return (h - h.detach() * (x.abs().sum() == 0)).pow(2).sqrt()

    finding, line = train(length)
    assert line == "return (h - h.detach() * (x.abs().sum() == 0)).pow(2).sqrt()"
    assert (finding.evidence["cause"], finding.evidence["operation"]) == ("gradient", "sqrt")
    assert finding.evidence["first_step"] == 20


def test_the_batch_is_not_kept_when_the_run_is_over():
    net = nn.Linear(4, 1)
    with watch() as doctor:
        net(torch.randn(8, 4)).mean().backward()
        assert doctor.run.roots.roots[0].batch is not None
    assert doctor.run.roots.roots[0].batch is None


def test_the_batch_is_not_kept_when_only_the_first_steps_are_watched():
    net = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with watch(steps=2) as doctor:
        for _ in range(3):
            net(torch.randn(8, 4)).mean().backward()
            optimizer.step()
        assert doctor.run.roots.roots[0].batch is None
