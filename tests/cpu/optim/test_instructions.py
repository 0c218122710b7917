"""What LLVM makes of a kernel: choices that cost a multiple of the time if they go wrong."""

import math
import platform

import pytest
import torch

import kudari.optim
from kudari.compile import cpu
from kudari.compile.notation import Step, hyper, maximum, minimum, rule, tensor_sum
from kudari.optim import make_class

llvm = pytest.importorskip("llvmlite.binding")


@rule(name="Clipped", source="a test")
def clipped(p, g, *, lr=hyper(1.0), low=hyper(-0.5), high=hyper(0.5)):
    return Step(p=p + minimum(maximum(lr * g, low), high) + maximum(minimum(g, 2.0), -2.0))


@rule(name="Below", source="a test")
def below_the_sum(p, g, *, lr=hyper(1.0)):
    return Step(p=p + lr * minimum(tensor_sum(p), g))


def printed(name, monkeypatch):
    """The kernels that take a step of a matrix, for vectors of eight."""
    texts = []
    print_llvm = cpu.print_llvm

    def recorded(program, width):
        texts.append(print_llvm(program, 8))
        return print_llvm(program, width)

    monkeypatch.setattr(cpu, "print_llvm", recorded)
    cpu.compile_cpu.cache_clear()
    p = torch.nn.Parameter(torch.ones(64, 32))
    p.grad = torch.ones(64, 32)
    kudari.optim.get(name)([p]).step()
    return texts


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="about x86 instructions")
@pytest.mark.parametrize(("name", "kernels"), [("ADOPT", 1), ("Prodigy", 1), ("SOAP", 3)])
def test_only_tails_are_stored_under_a_mask(name, kernels, monkeypatch):
    texts = printed(name, monkeypatch)
    assert len(texts) == kernels
    triple = llvm.Target.from_default_triple()
    machine = triple.create_target_machine(cpu="znver3", opt=2, reloc="pic", codemodel="jitdefault", jit=True)
    for text in texts:
        module = llvm.parse_assembly(text)
        passes = llvm.create_new_module_pass_manager()
        for each in cpu.PASSES:
            getattr(passes, f"add_{each}_pass")()
        passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
        lines = [line.split() for line in machine.emit_assembly(module).splitlines()]
        masked = [x for x in lines if x and x[0].startswith("vmaskmov") and x[-1].endswith(")")]
        assert len(masked) <= text.count("call void @llvm.masked.store")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bound_that_is_a_number_is_one_for_every_value_and_lets_nan_through(dtype):
    values = [0.25, -3.0, 3.0, -math.inf, math.inf, -0.5, 0.5, 0.0, math.nan, 1.0, -1.0]
    p = torch.nn.Parameter(torch.zeros(len(values), dtype=dtype))
    p.grad = torch.tensor(values, dtype=dtype)
    make_class(clipped)([p]).step()
    expected = p.grad.clamp(-0.5, 0.5) + p.grad.clamp(-2, 2)
    assert torch.equal(p.detach().nan_to_num(-7.0), expected.nan_to_num(-7.0))


def test_a_bound_that_has_become_nan_shows_everywhere():
    p = torch.nn.Parameter(torch.tensor([math.nan, *[1.0] * 16]))
    p.grad = torch.linspace(-8, 8, 17)
    make_class(below_the_sum)([p]).step()
    assert p.detach().isnan().all()
