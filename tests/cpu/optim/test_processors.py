"""Kernels for processors with other vectors than this one's, run here."""

import platform

import pytest
import torch

import kudari.optim
from kudari.compile import cpu
from kudari.optim import bound_group

llvm = pytest.importorskip("llvmlite.binding")

CASES = [
    ("SGD", {"momentum": 0.9}),
    ("AdamW", {}),
    ("AdamW", {"state_dtype": "8bit"}),
    ("Lion", {"state_dtype": "4bit"}),
    ("LAMB", {}),
    ("Adafactor", {}),
    ("AdamAtan2", {}),
]  # fmt: skip


@pytest.fixture
def on(monkeypatch):
    """Compile for a processor with vectors of so many bytes; without features, for the oldest of its kind."""

    def choose(width, *, plain=False):
        here = cpu.target()
        name, features = ("x86-64", "") if plain else (here.cpu, here.features)
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=name, features=features, opt=2, reloc="pic", codemodel="jitdefault", jit=True
        )
        cpu.compile_cpu.cache_clear()
        monkeypatch.setattr(cpu, "target", lambda: cpu.Target(name, features, width, machine))

    yield choose
    monkeypatch.undo()
    cpu.compile_cpu.cache_clear()


def weights(name, options, dtype=torch.float32):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(s).to(dtype)) for s in [(70, 65), (5000,), (17,), ()]]
    optimizer = kudari.optim.get(name)(params, **options)
    for _ in range(5):
        for p in params:
            p.grad = torch.randn(p.shape).to(dtype)
        optimizer.step()
    return params


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_step_is_the_same_for_vectors_of_any_width(name, options, width, on):
    expected = weights(name, options)
    on(width)
    for p, q in zip(weights(name, options), expected, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-6, atol=2e-6)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="about x86 processors")
@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_processor_without_newer_instructions_takes_the_same_step(name, options, on):
    expected = weights(name, options)
    on(16, plain=True)
    for p, q in zip(weights(name, options), expected, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-6, atol=2e-6)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="about x86 processors")
def test_half_precision_without_instructions_for_it_is_done_by_torch(on, monkeypatch):
    monkeypatch.setattr(bound_group, "_said", set())
    expected = weights("AdamW", {"lr": 0.1}, torch.float16)
    on(16, plain=True)
    with pytest.warns(kudari.optim.EagerFallbackWarning, match="float16 on processors without"):
        found = weights("AdamW", {"lr": 0.1}, torch.float16)
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=2e-3, atol=2e-3)


def test_without_openmp_plain_threads_take_the_same_step(monkeypatch):
    torch.set_num_threads(2)
    params = [torch.nn.Parameter(torch.ones(1024, 2048)) for _ in range(2)]
    found = []
    for runtimes in (cpu._runtimes(), ()):
        monkeypatch.setattr(cpu, "_runtimes", lambda names=runtimes: names)
        cpu.fork_address.cache_clear()
        torch.manual_seed(0)
        copies = [torch.nn.Parameter(p.detach().clone()) for p in params]
        optimizer = kudari.optim.LAMB(copies)
        for _ in range(3):
            for p in copies:
                p.grad = torch.randn_like(p)
            optimizer.step()
        found.append(torch.stack([p.detach() for p in copies]))
    monkeypatch.undo()
    cpu.fork_address.cache_clear()
    torch.set_num_threads(1)
    assert torch.equal(*found)
