"""Which kernels a device has: the one place that knows, and where another device would be added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kudari.compile.cpu import compile_cpu
from kudari.compile.gpu import compile_gpu
from kudari.compile.program import Program
from kudari.errors import CompileError
from kudari.optim.binding import Binding, CpuBinding
from kudari.optim.gpu_binding import GpuBinding
from kudari.optim.members import Member


@dataclass(frozen=True)
class Backend:
    """What makes kernels for a device.

    Attributes:
        bind: compiles a program for tensors of one dtype per slot; raises CompileError where it cannot.
        on_device: step counts, and whatever else would have to be waited for, stay where the kernel runs.
    """

    bind: Callable[[Program, Sequence[Member], torch.dtype], Binding]
    on_device: bool


def _bind_cpu(program: Program, members: Sequence[Member], grad_dtype: torch.dtype) -> Binding:
    if program.mixes_codes:
        raise CompileError("Coded states go with no sums over rows and columns and no sliced states yet.")
    return CpuBinding(program, compile_cpu(program), members, grad_dtype)


def _bind_gpu(program: Program, members: Sequence[Member], grad_dtype: torch.dtype) -> Binding:
    return GpuBinding(program, compile_gpu(program), members, grad_dtype)


# By torch's device type; both NVIDIA and AMD call themselves "cuda".
BACKENDS: dict[str, Backend] = {"cpu": Backend(_bind_cpu, False), "cuda": Backend(_bind_gpu, True)}
# By the class of the parameter, whatever its device.
BY_CLASS: dict[type[Tensor], Backend] = {}


def backend_of(p: Tensor) -> Backend | None:
    """What has kernels for such a parameter; None for subclasses that may not allow kernels at its memory."""
    if type(p) in (Tensor, torch.nn.Parameter):
        return BACKENDS.get(p.device.type)
    return BY_CLASS.get(type(p))
