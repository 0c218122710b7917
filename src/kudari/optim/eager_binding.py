"""Bindings of tensors that have no kernel: plain torch operations take the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kudari.compile import eager
from kudari.compile.expression import evaluate
from kudari.compile.program import Program, sum_name
from kudari.optim.members import Member, Ready
from kudari.optim.sharding import rows_of
from kudari.optim.states import decode, encode, is_coded, real


class EagerBinding:
    """What a CpuBinding is, for tensors that have no kernel: torch operations, one tensor after another.

    Args:
        program: what to do.
        members: the tensors.
        grad_dtype: dtype of the gradients.
    """

    on_device = False

    def __init__(self, program: Program, members: Sequence[Member], grad_dtype: torch.dtype) -> None:
        self.program, self.members, self.grad_dtype = program, list(members), grad_dtype
        self.sums = np.zeros((len(self.members), max(1, len(program.sums))))
        self.rows = rows_of([m.held for m in members])
        self.scratch: list[dict[str, Tensor]] = [{} for _ in self.members]

    def ready(self) -> Ready:
        """Whether the tensors are still the ones bound."""
        grads = (m.gradient(m.param) for m in self.members)
        usable = all(
            g is not None and g.dtype is self.grad_dtype and g.layout is torch.strided for g in grads
        )
        return "ready" if usable else "stale"

    def total(self, index: int) -> Any:
        """A sum over all tensors."""
        return float(self.sums[:, index].sum())

    def give(self, index: int, total: Any) -> None:
        """Take a sum over all tensors of all bindings for the sum over each tensor."""
        self.sums[:, index] = float(total)

    def sums_here(self) -> Any:
        """Sums of the passes so far, float64 (tensors, sums of the program), for the host to change."""
        return self.sums

    def take_sums(self, sums: Any) -> None:
        """Go on with these."""
        self.sums[:] = sums

    def stage(self) -> None:
        """Nothing to do: torch reads any layout."""

    def finish(self) -> None:
        """Nothing to do: torch's operations tell autograd themselves."""

    def run(self, numbers: list[float], threads: int) -> None:
        """Run all passes."""
        for number in range(len(self.program.passes)):
            self.run_pass(number, numbers, threads)

    @torch.no_grad()
    def run_pass(self, number: int, numbers: list[float], threads: int) -> None:
        """Run one pass on every tensor."""
        names = [slot.name for slot in self.program.slots if not slot.scratch]
        part = self.program.passes[number]
        for row, member in enumerate(self.members):
            if number == 0 and "t" in self.program.hypers and self.program.counts:
                member.counter.add_(1)
            values = dict(zip(self.program.hypers, numbers, strict=False))
            values |= {"t": float(member.counter), **_sizes(member)}
            values |= {sum_name(i): float(x) for i, x in enumerate(self.sums[row])}
            cells = [member.state[key] for key in member.cells]
            values |= {name: float(x) for (name, _), x in zip(self.program.cells, cells, strict=True)}
            tensors = [member.param.detach(), member.dense_gradient()]
            tensors += [self._plain(member.state[key]) for key in member.keys]
            slots = dict(zip(names, map(real, tensors), strict=True)) | self.scratch[row]
            if part.draws:
                slots["noise"] = _random_bits(slots["p"])
            found = eager.run_pass(self.program, number, slots, values)
            slots.pop("noise", None)
            for key, slot in zip(member.keys, self.program.slots[2:], strict=False):
                if slot.codec and slot.name in part.writes:
                    member.state[key].update(encode(slots[slot.name], slot.codec))
            self.scratch[row] = {n: slots[n] for n in slots if n not in names}
            self.sums[row, part.first_sum : part.first_sum + len(found)] = found
            if number == len(self.program.passes) - 1:
                self.scratch[row] = {}
                new = [evaluate(expr, values) for _, expr in self.program.cells]
                for cell, value in zip(cells, new, strict=True):
                    cell.fill_(value)

    @staticmethod
    def _plain(value: Any) -> Tensor:
        return decode(value) if is_coded(value) else value


def _random_bits(like: Tensor) -> Tensor:
    """32 random bits for each element, from torch's default generator of the device."""
    return torch.randint(-(2**31), 2**31, like.shape, dtype=torch.int32, device=like.device)


def _sizes(member: Member) -> dict[str, float]:
    """How many elements a tensor has, and how many rows and columns each of its matrices."""
    shape = member.param.shape
    matrix = {"rows": float(shape[-2]), "columns": float(shape[-1])} if len(shape) > 1 else {}
    return {"numel": float(member.numel)} | matrix
