"""Whether gradients are finite: one reading pass, by the kernels that take steps, or by torch on a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from kudari.compile.cpu import compile_cpu, fork_address
from kudari.compile.expression import slot
from kudari.compile.llvm import CONTEXT, CONTEXT_WORDS
from kudari.compile.plan import make_plan
from kudari.compile.program import Float, Pass, Program, Slot, Sum
from kudari.optim.states import FLOATS, is_dense, real


def _program(dtype: Float) -> Program:
    """Adds up x - x, which is 0 for numbers and NaN for everything else."""
    x = slot("g")
    part = Pass((), (), (Sum(x - x, "tensor"),))
    return Program("finite", (Slot("g", dtype),), (), (part,), "f64" if dtype == "f64" else "f32")


class FiniteCheck:
    """Reads tensors and says whether all their elements are finite; keeps its tables from call to call."""

    def __init__(self) -> None:
        self._runs: dict[tuple[Float, tuple[int, ...]], Callable[[list[int], int], bool]] = {}

    @torch.no_grad()
    def __call__(self, tensors: Sequence[Tensor], threads: int) -> bool:
        """Whether everything is finite.

        Args:
            tensors: any dtypes, layouts and devices; sparse ones by their values.
            threads: how many the kernel may use.
        """
        sorts: dict[Float, list[Tensor]] = {}
        for x in map(_numbers, tensors):
            dtype = FLOATS.get(x.dtype)
            if dtype is None or type(x) is not Tensor or x.device.type != "cpu" or not is_dense(x):
                if not bool(x.isfinite().all()):
                    return False
            elif x.numel():
                sorts.setdefault(dtype, []).append(x)
        return all(self._all_finite(dtype, group, threads) for dtype, group in sorts.items())

    def _all_finite(self, dtype: Float, tensors: list[Tensor], threads: int) -> bool:
        sizes = tuple(x.numel() for x in tensors)
        if (dtype, sizes) not in self._runs:
            self._runs = {key: run for key, run in self._runs.items() if key[0] != dtype}
            self._runs[dtype, sizes] = _bind(dtype, sizes)
        return self._runs[dtype, sizes]([x.data_ptr() for x in tensors], threads)


@torch.no_grad()
def not_finite(tensors: Sequence[Tensor]) -> Tensor:
    """1 if an element of any tensor is not finite, else 0; found without waiting for the device.

    Args:
        tensors: at least one, of any floating-point dtypes and devices; sparse ones by their values.

    Returns:
        float32 with one element, on the device of the first tensor.
    """
    sorts: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for x in map(_numbers, tensors):
        if x.numel():
            sorts.setdefault((x.device, x.dtype), []).append(x)
    home = tensors[0].device
    found = torch.zeros((), dtype=torch.float32, device=home)
    for group in sorts.values():
        # The largest absolute value of each; NaN is larger than everything.
        largest = torch.stack(torch._foreach_norm(group, math.inf))
        found = found + (~largest.isfinite()).any().to(home, torch.float32, non_blocking=True)
    return found.clamp(max=1)


def _numbers(x: Tensor) -> Tensor:
    """All numbers of a tensor that may be complex or sparse."""
    return real((x._values() if x.layout is torch.sparse_coo else x).detach())


def _bind(dtype: Float, sizes: Sequence[int]) -> Callable[[list[int], int], bool]:
    """A function of addresses and threads that reads tensors of these sizes."""
    program, plan = _program(dtype), make_plan(sizes)
    kernel = compile_cpu(program)
    count = len(sizes)
    arrays = {
        "slots": np.zeros((count, 1), dtype=np.int64),
        "scalars": np.zeros((count, 1)),
        "hypers": np.zeros(1),
        "counters": np.zeros(count, dtype=np.int64),
        "partials": np.zeros((len(plan.chunks), 1)),
        "sums": np.zeros((count, 1)),
        "sizes": np.array(sizes, dtype=np.float64),
        "cells": np.zeros((count, 1), dtype=np.int64),
        "chunks": plan.chunks,
        "task_ends": plan.task_ends,
    }
    fields = {name: array.ctypes.data for name, array in arrays.items()}
    fields |= {"tensors": count, "tasks": len(plan.task_ends), "chunk_count": len(plan.chunks)}
    fields |= {"fork": fork_address(), "end_pass": 1}
    context = np.zeros(CONTEXT_WORDS, dtype=np.int64)
    for name, value in fields.items():
        context[CONTEXT[name]] = value

    def run(addresses: list[int], threads: int) -> bool:
        arrays["slots"][:, 0] = addresses
        kernel.call(context.ctypes.data, plan.threads(threads, program.work))
        return bool(np.isfinite(arrays["sums"]).all())

    return run
