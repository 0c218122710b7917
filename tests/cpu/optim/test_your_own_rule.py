"""A user's own rule: the page's code runs as it stands, and mistakes are answered in words."""

import copy
import pickle
import re
import sys
import types
from pathlib import Path

import pytest
import torch

import kudari.optim
from kudari.compile.notation import Step, factors, hyper, option, rule, state
from kudari.errors import RuleError
from kudari.optim import make_class
from kudari.optim.gpu_binding import GpuBinding
from tests.cpu.optim.interpreted import bindings, interpreter, needs_triton, on_gpu, without_gpu

__all__ = ["interpreter", "on_gpu"]
BLOCK = 512  # of the interpreted kernels; a multiple of 256 elements, which share a scale
PAGE = Path(__file__).parents[3] / "docs/your-own-rule.md"


@pytest.fixture(scope="module")
def notebook():
    """A module without a file, like that of a notebook: no source can be inspected."""
    module = types.ModuleType("a_notebook")
    cells = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "a_notebook", module)
        for cell in cells:
            exec(cell, vars(module))
        yield module, cells


def test_the_page_runs_and_its_rule_takes_fewer_than_twenty_lines(notebook, capsys):
    module, cells = notebook
    assert len(cells) == 5
    assert len([line for line in cells[0].splitlines() if line.strip()]) < 20
    assert module.about.bytes_per_parameter == 20
    assert r"\operatorname{sign}(m_t)" in module.about.formula
    assert {"oracle", "resume", "threads", "low-bit-states"} <= {claim.name for claim in module.claims}


def test_the_rule_of_the_page_runs_in_a_kernel_of_its_own(notebook):
    module, _ = notebook
    bindings = [b for part in module.optimizer._bound.values() for b in part.bindings]
    assert bindings
    assert all(b.program.name == "SignMomentum" and b.kernel for b in bindings)


def test_the_rule_of_the_page_has_states_in_8_bits_and_a_triton_kernel(notebook, capsys):
    module, cells = notebook
    state_of_one = module.optimizer_8bit.state[module.large]
    assert state_of_one["exp_avg"]["code"].nbytes == module.large.numel()
    exec(next(cell for cell in cells if "print_triton" in cell), vars(module))
    assert "@triton.jit\ndef pass0(" in capsys.readouterr().out


@needs_triton
def test_the_triton_kernel_of_the_rule_of_the_page_has_the_bits_of_its_cpu_kernel(notebook, on_gpu):
    module, _ = notebook

    def step():
        p = torch.nn.Parameter(torch.linspace(-1, 1, 5000))
        p.grad = torch.linspace(3, -2, 5000)
        optimizer = module.SignMomentum([p], weight_decay=0.1, state_dtype="8bit")
        for _ in range(2):
            optimizer.step()
        found = optimizer.state[p]["exp_avg"]
        return [p.detach(), found["code"], found["scale"]], bindings(optimizer)

    found, made = step()
    assert all(isinstance(b, GpuBinding) for b in made)
    assert all(map(torch.equal, found, without_gpu(step)[0]))


def test_its_optimizer_is_pickled_and_copied(notebook):
    module, _ = notebook
    for twin in (pickle.loads(pickle.dumps(module.optimizer)), copy.deepcopy(module.optimizer)):
        assert type(twin) is module.SignMomentum
        (state_of_one, *_) = twin.state.values()
        assert torch.equal(state_of_one["exp_avg"], next(iter(module.optimizer.state.values()))["exp_avg"])


def test_a_rule_called_like_one_of_ours_does_not_take_its_place_nor_its_kernel():
    @rule(name="AdamW", source="a test")
    def other(p, g, *, lr=hyper(1.0, at_least=0)):
        return Step(p=p - lr * g)

    found = []
    for cls in (make_class(other), kudari.optim.AdamW, make_class(other)):
        p = torch.nn.Parameter(torch.zeros(3))
        p.grad = torch.full((3,), 0.5)
        cls([p], lr=1.0).step()
        found.append(p[0].item())
    assert found == [-0.5, pytest.approx(-1.0), -0.5]
    assert kudari.optim.get("adamw") is kudari.optim.AdamW


def test_two_rules_of_one_name_in_one_session_are_two_rules():
    """A cell that is run again after a change."""
    moved = []
    for factor in (1.0, 3.0):

        @rule(name="Again", source="a test")
        def again(p, g, *, lr=hyper(0.1, at_least=0)):
            return Step(p=p - factor * lr * g)  # noqa: B023 - traced at once

        p = torch.nn.Parameter(torch.zeros(1))
        p.grad = torch.ones(1)
        make_class(again)([p]).step()
        moved.append(p.item())
    assert moved == [pytest.approx(-0.1), pytest.approx(-0.3)]


def made(name="Mine", **arguments):
    """A rule whose function is fine, with declarations of one's own."""

    def function(p, g, *, lr=hyper(0.1)):
        return Step(p=p - lr * g)

    function.__kwdefaults__ = {"lr": hyper(0.1), **arguments}
    return rule(name=name, source="a test")(function)


def with_state(**kw):
    @rule(name="Mine", source="a test")
    def mine(p, g, m=state(**{"key": "m", **kw}), n=state("n"), *, lr=hyper(0.1)):
        return Step(p=p - lr * g, m=m + g, n=n + g)

    return mine


def with_factors(init):
    @rule(name="Mine", source="a test")
    def mine(p, g, L=factors("L", lambda shape, group: shape, init=init), *, lr=hyper(0.1)):
        return Step(p=p - lr * g, L=L)

    return mine


def returning(value):
    @rule(name="Mine", source="a test")
    def mine(p, g, *, lr=hyper(0.1), maximise=option(False)):
        return value(p, g, lr)

    return mine


def reserved():
    @rule(name="Mine", source="a test")
    def mine(p, g, *, lr=hyper(0.1), maximize=option(False)):
        return Step(p=p - lr * g)

    return mine


REFUSED = [
    (lambda: made("My rule"), r"My rule: its name is that of a class, .* Call it like a class"),
    (lambda: print, r"'print' is not a rule. Decorate the function"),
    (reserved, r"Mine: the argument 'maximize' is a keyword of every optimizer"),
    (lambda: with_state(key="n"), r"Mine: two states are kept as 'n'"),
    (lambda: with_state(key="step"), r"Mine: a state is kept as 'step'"),
    (lambda: with_state(when="lrr"), r"Mine: state 'm' exists when='lrr'.* Did you mean 'lr'\?"),
    (lambda: with_state(init="zeroes"), r"Mine: state 'm' starts with init='zeroes'. Did you mean 'zeros'\?"),
    (lambda: with_factors("copy"), r"state 'L' starts with init='copy'. Use 'zeros' or 'identity'"),
    (lambda: made(lr=hyper(-1.0, at_least=0)), r"the default lr=-1.0 is outside its own range. Expected"),
    (lambda: returning(lambda p, g, lr: Step(p=1.0)), r"Mine gives p one number for the whole tensor"),
    (lambda: returning(lambda p, g, lr: Step(p=lr)), r"Mine gives p one number for the whole tensor"),
    (lambda: returning(lambda p, g, lr: p - g), r"Mine returned Expr, not a Step"),
    (lambda: returning(lambda p, g, lr: Step(p=p - g, g=g)), r"Mine returns a new value for g"),
    (lambda: returning(lambda p, g, lr: Step(p=p - g, q=g)), r"Mine returns values for \['p', 'q'\]"),
    (lambda: returning(lambda p, g, lr: Step(p=p) if g > 0 else None), r"as a condition. .* Write where"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[m[:30] for _, m in REFUSED])
def test_a_mistake_is_answered_in_words(make, message):
    with pytest.raises(RuleError, match=message):
        make_class(make())
