"""GPU kernels without a GPU: Triton's interpreter runs them on CPU tensors, operation by operation."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from kudari.compile.gpu import compile_gpu
from kudari.optim import backends
from kudari.optim.gpu_binding import GpuBinding
from tests.cpu.optim.conftest import build, start, trajectory

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed (it is made for Linux only)"
)


def bind_blocks_of(block):
    """Small blocks, so that small tensors have several: the interpreter is slow."""

    def bind(program, members, grad_dtype):
        return GpuBinding(program, compile_gpu(program, block), members, grad_dtype)

    return backends.Backend(bind, on_device=True)


def _forget_kernels():
    """Triton decides when a kernel is loaded whether it is interpreted, and for good."""
    compile_gpu.cache_clear()
    for name in ("functions", "bits"):
        sys.modules.pop(f"kudari.compile.triton.{name}", None)


@pytest.fixture(scope="module")
def interpreter():
    """Kernels loaded meanwhile are interpreted; none of them is left for tests on a GPU."""
    _forget_kernels()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        _interpret_triton_itself(patch)
        yield
    _forget_kernels()


def _interpret_triton_itself(patch):
    """Also where somebody has loaded Triton before, whose own functions are kernels of that kind."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    for name, function in list(vars(tl.standard).items()):
        if isinstance(function, JITFunction):
            interpreted = InterpretedFunction(function.fn)
            patch.setattr(tl.standard, name, interpreted)
            if getattr(tl, name, None) is function:
                patch.setattr(tl, name, interpreted)


@pytest.fixture
def on_gpu(interpreter, monkeypatch, request):
    """CPU tensors take the GPU's road, in blocks of 16 or the test module's ``BLOCK``."""
    monkeypatch.setitem(backends.BACKENDS, "cpu", bind_blocks_of(getattr(request.module, "BLOCK", 16)))
    # NumPy warns where floats overflow or divide by zero, which kernels do as IEEE 754 says.
    with np.errstate(all="ignore"):
        yield


def without_gpu(function):
    """The same by the CPU kernel."""
    chosen = backends.BACKENDS["cpu"]
    backends.BACKENDS["cpu"] = backends.Backend(backends._bind_cpu, on_device=False)
    try:
        return function()
    finally:
        backends.BACKENDS["cpu"] = chosen


def bindings(optimizer):
    return [b for part in optimizer._bound.values() for b in part.bindings]


def both(name, kw, steps, dtype, shapes):
    """Parameters after some steps of the GPU kernel and of the CPU kernel, and where they began."""
    found, optimizer = trajectory(lambda ps: build(name, ps, **kw), steps, dtype, shapes)
    assert all(isinstance(b, GpuBinding) for b in bindings(optimizer))
    expected, _ = without_gpu(lambda: trajectory(lambda ps: build(name, ps, **kw), steps, dtype, shapes))
    return found, expected, [p.detach() for p in start(dtype, shapes)]


def assert_near(found, expected, first, close, steps):
    """Within a share of the distance moved, plus one rounding of p a step on either side."""
    for a, b, origin in zip(found, expected, first, strict=True):
        if b.numel():
            moved = (b.double() - origin.double()).abs().max()
            rounding = 2 * steps * torch.finfo(b.dtype).eps * b.double().abs().max()
            assert (a.double() - b.double()).abs().max() <= close * moved + rounding
