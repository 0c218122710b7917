"""The Triton kernels as a place to take steps without a GPU: Triton's interpreter runs them on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kudari.compile.gpu import compile_gpu, has_triton
from kudari.compile.program import Program
from kudari.optim import backends
from kudari.optim.binding import Binding
from kudari.optim.gpu_binding import GpuBinding
from kudari.optim.members import Member

# Elements of a block: few, so that small tensors have several; codes need a multiple of 256.
BLOCK = 256


class Interpreted(torch.nn.Parameter):
    """A parameter on the CPU whose steps are taken by interpreted GPU kernels."""


class _Binding(GpuBinding):
    """Launches without NumPy's remarks on overflow and division by zero, which are as IEEE 754 has them."""

    def run_pass(self, number: int, numbers: list[Any], threads: int) -> None:
        with np.errstate(all="ignore"):
            super().run_pass(number, numbers, threads)


def _bind(program: Program, members: Sequence[Member], grad_dtype: torch.dtype) -> Binding:
    return _Binding(program, compile_gpu(program, BLOCK), members, grad_dtype)


def interpreting() -> bool:
    """Whether Triton is there and was told, by ``TRITON_INTERPRET=1``, to interpret kernels."""
    return os.environ.get("TRITON_INTERPRET") == "1" and has_triton()


backends.BY_CLASS[Interpreted] = backends.Backend(_bind, on_device=True)
