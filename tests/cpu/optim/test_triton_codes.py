"""GPU kernels with coded states and 16-bit rounding have the CPU kernels' bits, in Triton's interpreter."""

import pytest
import torch

import kudari.optim
from kudari.compile.expression import slot
from kudari.compile.gpu import GpuKernel, compile_gpu
from kudari.compile.notation import State, Step, hyper, row_mean, rule, sign
from kudari.compile.program import Pass, Program, Slot
from kudari.optim import make_class
from kudari.optim.eager_binding import EagerBinding
from kudari.optim.gpu_binding import GpuBinding
from kudari.optim.states import decode, is_coded
from kudari.testing import RuleExamError, check_rule
from kudari.testing.rule_exam import CHECKS
from tests.cpu.optim.conftest import build
from tests.cpu.optim.interpreted import bindings, interpreter, needs_triton, on_gpu, without_gpu

pytestmark = needs_triton
__all__ = ["interpreter", "on_gpu"]

BLOCK = 512  # two or four lines of elements that share a scale
# Above the 4096 from which states are coded: whole blocks, a whole line, a part of one with an odd end.
SIZE = 4096 + 256 + 37


def run(name, dtype=torch.float32, steps=2, sizes=(SIZE,), **kw):
    """Everything that a step writes, after some steps, and the optimizer."""
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(n, generator=generator).to(dtype)) for n in sizes]
    optimizer = build(name, params, **kw) if isinstance(name, str) else name(params, **kw)
    torch.manual_seed(1)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator).to(dtype)
        optimizer.step()
    return written(optimizer), optimizer


def written(optimizer):
    found = []
    for p, state in optimizer.state.items():
        found.append(p.detach())
        for value in state.values():
            found += [value["code"], value["scale"]] if is_coded(value) else [value]
    return found


def assert_same_bits(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype is b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("state_dtype", ["bf16", "8bit", "4bit", "8bit-dynamic"])
@pytest.mark.parametrize("name", ["AdamW", "Lion", "Adan"])
def test_low_bit_states_have_the_bits_of_the_cpu_kernel(name, state_dtype, on_gpu):
    found, optimizer = run(name, state_dtype=state_dtype)
    assert all(isinstance(b, GpuBinding) for b in bindings(optimizer))
    assert_same_bits(found, without_gpu(lambda: run(name, state_dtype=state_dtype))[0])


@pytest.mark.parametrize("state_dtype", ["fp32", "8bit"])
@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_parameters_are_rounded_to_the_bits_of_the_cpu_kernel(dtype, rounding, state_dtype, on_gpu):
    kw = {"dtype": dtype, "rounding": rounding, "state_dtype": state_dtype, "weight_decay": 0.1}
    found, optimizer = run("AdamW", **kw)
    assert all(isinstance(b, GpuBinding) for b in bindings(optimizer))
    assert_same_bits(found, without_gpu(lambda: run("AdamW", **kw))[0])


@pytest.mark.parametrize("state_dtype", ["bf16", "8bit"])
def test_float64_parameters_have_codes_in_float32(state_dtype, on_gpu):
    kw = {"dtype": torch.float64, "state_dtype": state_dtype}
    found, expected = run("AdamW", **kw)[0], without_gpu(lambda: run("AdamW", **kw)[0])
    # The parameter first; float64 multiply-adds are not fused in the interpreter.
    torch.testing.assert_close(found[0], expected[0], rtol=1e-13, atol=1e-13)
    assert_same_bits(found[1:], expected[1:])


@pytest.mark.parametrize("state_dtype", ["8bit", "4bit"])
def test_passes_with_sums_go_through_codes(state_dtype, on_gpu):
    found, expected = (
        call(lambda: run("LAMB", state_dtype=state_dtype)[0]) for call in (lambda f: f(), without_gpu)
    )
    # The trust ratio is a quotient of sums that are added up in another order.
    torch.testing.assert_close(found[0], expected[0], rtol=2.4e-7, atol=2.4e-7)
    assert_same_bits(found[1:], expected[1:])


@rule(name="Keep", source="a test")
def keep(p, g, m=State("m"), v=State("v", non_negative=True), *, lr=hyper(1.0)):
    """States are the gradient; the parameter becomes what was kept of it."""
    return Step(p=lr * m + v, m=g, v=abs(g))


SPECIAL = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-45, 1e-39, 3.4e38, 1.0, -1.0]


@pytest.mark.parametrize("state_dtype", ["8bit", "4bit", "8bit-dynamic"])
def test_special_numbers_are_coded_and_read_as_by_the_cpu_kernel(state_dtype, on_gpu):
    def step():
        generator = torch.Generator().manual_seed(0)
        g = torch.randn(SIZE, generator=generator) * 10.0 ** (-9 * torch.rand(SIZE, generator=generator))
        g[512:1024] = 0  # whole lines of zeros
        g[2048:2176] = 1e-40  # too small for a reciprocal
        for i, x in enumerate(SPECIAL):  # each in a line of its own
            g[1100 + 256 * i] = x
        p = torch.nn.Parameter(torch.zeros(SIZE))
        optimizer = make_class(keep)([p], state_dtype=state_dtype)
        for _ in range(2):
            p.grad = g.clone()
            optimizer.step()
        return [p.detach(), *(decode(optimizer.state[p][key]) for key in "mv")]

    # The codes of a line whose scale is NaN may be any.
    for a, b in zip(step(), without_gpu(step), strict=True):
        assert a.isnan().any() and not a.isnan().all()
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@rule(name="SignMomentum", source="a test")
def sign_momentum(p, g, m=State("m"), *, lr=hyper(0.1), beta=hyper(0.5)):
    m_t = beta * m + (1 - beta) * g
    return Step(p=p - lr * sign(m_t), m=m_t)


def asking_only(name):
    return [other for other in CHECKS if other != name]


def test_the_exam_asks_the_interpreted_kernels_too(interpreter, monkeypatch):
    asked, right = [], GpuKernel.elements
    monkeypatch.setattr(GpuKernel, "elements", lambda *args: asked.append(args) or right(*args))
    check_rule(sign_momentum, cases=({},), without=asking_only("backends"))
    assert len(asked) == 8  # steps


@pytest.mark.parametrize("claim", ["backends", "low-bit-states"])
def test_a_wrong_kernel_fails_the_exam(claim, interpreter, monkeypatch):
    right = GpuKernel.elements

    def wrong(self, number, blocks, arguments, aligned):
        right(self, number, blocks - 1, arguments, aligned)  # the last block is left out

    monkeypatch.setattr(GpuKernel, "elements", wrong)
    with pytest.raises(RuleExamError, match=f"{claim}: .*triton"):
        check_rule(sign_momentum, cases=({},), without=asking_only(claim))


def test_small_tensors_are_not_coded_and_large_ones_share_a_launch(on_gpu):
    sizes = (5000, 17, 4096)
    found, optimizer = run("AdamW", sizes=sizes, state_dtype="8bit")
    made = bindings(optimizer)
    assert sorted(len(b.members) for b in made) == [1, 2] and all(isinstance(b, GpuBinding) for b in made)
    assert_same_bits(found, without_gpu(lambda: run("AdamW", sizes=sizes, state_dtype="8bit"))[0])


def test_random_bits_are_new_at_every_step_and_come_from_torchs_generator(on_gpu):
    p = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    optimizer = kudari.optim.SGD([p], lr=2.0**-9, rounding="stochastic")  # half a unit in the last place

    def step():
        with torch.no_grad():
            p.fill_(1)
        p.grad = torch.ones_like(p)
        optimizer.step()
        return p.detach().clone()

    torch.manual_seed(3)
    first, second = step(), step()
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(step(), first)


def test_a_checkpoint_of_codes_goes_from_one_kernel_to_the_other(on_gpu):
    _, optimizer = run("AdamW", state_dtype="8bit")
    saved = optimizer.state_dict()

    def go_on():
        p = torch.nn.Parameter(optimizer.param_groups[0]["params"][0].detach().clone())
        again = kudari.optim.AdamW([p], state_dtype="8bit")
        again.load_state_dict(saved)
        p.grad = torch.ones(SIZE)
        again.step()
        return written(again)

    assert_same_bits(go_on(), without_gpu(go_on))


def test_codes_beside_sliced_states_have_the_bits_of_the_cpu_kernel(on_gpu):
    def step():
        return run("Prodigy", steps=1, slice_p=11, d0=1e-2, state_dtype="8bit")

    found, optimizer = step()
    assert all(isinstance(b, GpuBinding) for b in bindings(optimizer))
    expected = without_gpu(step)[0]
    # The parameter moves by sums over the model, which are added up in another order.
    torch.testing.assert_close(found[0], expected[0], rtol=2.4e-7, atol=2.4e-7)
    assert_same_bits(found[1:], expected[1:])


@rule(name="RowsAndMomentum", source="a test")
def rows_and_momentum(p, g, m=State("m"), R=State("r", shape="rows", full_precision=True), *, lr=hyper(0.1)):
    """A state that may be coded beside one with a value for each row."""
    R_t = R + row_mean(g**2)
    return Step(p=p - lr * m / (1 + R_t), m=m + g, R=R_t)


def test_codes_beside_rows_have_no_kernel_and_it_is_said(on_gpu, monkeypatch):
    monkeypatch.setattr("kudari.optim.bound_group._said", set())
    p = torch.nn.Parameter(torch.ones(128, 64))
    optimizer = make_class(rows_and_momentum)([p], state_dtype="8bit")
    p.grad = torch.ones_like(p)
    with pytest.warns(kudari.optim.EagerFallbackWarning, match="Triton printer does not know coded states"):
        optimizer.step()
    assert isinstance(bindings(optimizer)[0], EagerBinding)


def test_blocks_that_would_cut_a_scale_in_two_are_refused(interpreter):
    slots = (Slot("p", "f32"), Slot("m", "8bit"))
    program = Program("Move", slots, (), (Pass((), (("p", slot("m")),)),), "f32")
    with pytest.raises(ValueError, match="in two"):
        compile_gpu(program, 128)
