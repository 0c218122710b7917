"""Bindings: a group's tensors laid out for a kernel, kept from step to step while nothing moves.

A step must not trust what it saw before: gradients are new tensors most of the time, and a caller may replace
parameters or states. So each step compares addresses, which is cheap, and binds anew only if one has changed
that must not.
"""

from __future__ import annotations

import operator
from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kudari.compile.addresses import Addresses, loops
from kudari.compile.cpu import fork_address
from kudari.compile.llvm import CONTEXT, CONTEXT_WORDS
from kudari.compile.plan import Plan, RowPlan, make_plan, make_row_plan
from kudari.compile.program import Program, sum_name
from kudari.optim.eager_binding import EagerBinding
from kudari.optim.members import Member, Ready, in_rows, same_layout
from kudari.optim.sharding import Summing, add_up_parts, rows_of
from kudari.optim.states import is_coded, is_dense, pieces, real

# As a function of any tensor: a step asks for thousands of addresses.
_address = Tensor.data_ptr
_grad = operator.attrgetter("grad")


def _form(x: Tensor) -> tuple[torch.Size, tuple[int, ...]]:
    return x.shape, x.stride()


# Tensors from which on a compiled loop asks for them; it takes 5 ms to load, once.
MANY = 32


class CpuBinding:
    """A kernel, the tables it reads, and the tensors behind the addresses in them.

    Args:
        program, kernel: what to run.
        members: the tensors; all of one dtype per slot.
        grad_dtype: dtype of the gradients.

    Attributes:
        on_device: numbers and GradScaler's flag are read where the kernel runs, without waiting for it.
    """

    on_device = False

    def __init__(
        self, program: Program, kernel: Any, members: Sequence[Member], grad_dtype: torch.dtype
    ) -> None:
        self.program, self.kernel, self.members = program, kernel, list(members)
        self.params = [m.param for m in members]
        self.states = [m.state for m in members]
        self.keys, self.cell_keys = members[0].keys, members[0].cells
        self.counted = "step" in members[0].state
        self.coded = [key for key in self.keys if is_coded(members[0].state.get(key))]
        self.grad_dtype = grad_dtype
        written = {name for part in program.passes for name in part.writes}
        self.moves, self.clears = "p" in written, "g" in written
        self.sharded = any(m.part for m in members)
        self.gathered = any(m.part and m.part.gathered for m in members)
        self.rows = rows_of([m.held for m in members])
        # Where every parameter is plainly contiguous and real, one comparison of addresses is enough.
        self.plain = all(p.is_contiguous() and not p.is_complex() for p in self.params)
        in_order = program.in_order or any(map(in_rows, members))
        self.usable = torch.Tensor.is_contiguous if in_order else is_dense
        self._tables()
        self.copies: list[tuple[Tensor, Tensor]] = []
        self.kept: list[Tensor] = []
        self.addresses: list[list[int]] = []
        self.found: Addresses | None = None
        self.tried = False
        self.numbers: list[float] = []

    def _tables(self) -> None:
        program, count = self.program, len(self.members)
        self.plan: Plan = (
            make_row_plan([matrices(p) for p in self.params])
            if program.by_rows
            else make_plan([real(p).numel() for p in self.params])
        )
        compute = np.float64 if program.compute == "f64" else np.float32
        sums = max(1, len(program.sums))
        self.slots = np.zeros((count, program.columns), dtype=np.int64)
        self.scalars = np.zeros((count, max(1, program.scalars_per_tensor)), dtype=compute)
        self.hypers = np.zeros(max(1, len(program.hypers)), dtype=np.float64)
        self.counters = np.array([m.counter.data_ptr() for m in self.members], dtype=np.int64)
        self.partials = np.zeros((max(1, len(self.plan.chunks)), sums))
        self.sums: Any = np.zeros((count, sums))
        self.cells = np.zeros((count, len(self.cell_keys)), dtype=np.int64)
        self.sizes = np.array([m.numel for m in self.members], dtype=np.float64)
        self.context = np.zeros(CONTEXT_WORDS, dtype=np.int64)
        arrays = ("slots", "scalars", "hypers", "counters", "partials", "sums", "sizes", "cells")
        fields = {name: getattr(self, name).ctypes.data for name in arrays}
        fields |= {"chunks": self.plan.chunks.ctypes.data, "task_ends": self.plan.task_ends.ctypes.data}
        fields |= {"tensors": count, "tasks": len(self.plan.task_ends), "chunk_count": len(self.plan.chunks)}
        fields |= {"fork": fork_address(), "first_pass": 0, "end_pass": len(program.passes)}
        for name, value in fields.items():
            self.context[CONTEXT[name]] = value
        self.context_address = self.context.ctypes.data
        if isinstance(self.plan, RowPlan):
            self._scratch(self.plan)

    def _scratch(self, plan: RowPlan) -> None:
        """Room for what rows and columns have one value of between the passes."""
        compute = np.float64 if self.program.compute == "f64" else np.float32
        sums = {sum_name(i) for i, s in enumerate(self.program.sums) if s.scope == "column"}
        self.scratch: list[npt.NDArray[Any]] = []
        for index, slot in enumerate(self.program.slots):
            if not slot.scratch:
                continue
            sizes = plan.dims[:, 0] * plan.dims[:, 1 if slot.shape == "rows" else 2]
            sizes = np.array(plan.places) if slot.name in sums else sizes
            room = np.zeros(int(sizes.sum()), dtype=compute)
            self.slots[:, index] = room.ctypes.data + room.itemsize * (np.cumsum(sizes) - sizes)
            self.scratch.append(room)
        self.context[CONTEXT["fold_count"]] = len(plan.folds)
        for name in ("dims", "column_at", "folds"):
            self.context[CONTEXT[name]] = getattr(plan, name).ctypes.data

    def _current(self) -> list[list[int]]:
        """Addresses of everything but gradients, and forms of the parameters, as they are now."""
        found: list[list[Any]] = [list(map(_address, self.params))]
        # Of contiguous ones, and they must stay so, the size says enough.
        plain = self.plain and all(map(Tensor.is_contiguous, self.params))
        found += [list(map(Tensor.numel if plain else _form, self.params))]
        if self.coded:
            found += self._pieces()
        keys = self._plain_keys
        found += [list(map(_address, map(operator.itemgetter(key), self.states))) for key in keys]
        return found

    @property
    def _plain_keys(self) -> tuple[str, ...]:
        """Names of what each tensor keeps as one plain tensor."""
        states = () if self.coded else self.keys
        return (*states, *(("step",) if self.counted else ()), *self.cell_keys)

    def _unmoved(self) -> bool:
        """Whether everything but gradients is where it was when it was bound."""
        if not self.tried and self.plain and not self.coded and len(self.params) >= MANY:
            self.tried, self.found = True, self._find()
        found = self.found
        if found is None:
            return self._current() == self.addresses
        return (
            found.find(1, self.params, self.dtypes[0])
            and all(found.find_under(row, key, dicts) for row, (key, dicts) in enumerate(self.looked_up, 2))
            and self.bound_table == found.table[1:].tobytes()
        )

    def _find(self) -> Addresses | None:
        """What lets compiled loops look at tensors, where there are some and they know the tensors."""
        made = loops()
        self.looked_up = [(key, [_holder(s, key) for s in self.states]) for key in self._plain_keys]
        if made is None or not all(type(s) is dict for _, dicts in self.looked_up for s in dicts):
            return None
        self.dtypes = (made.number(self.params[0].dtype), made.number(self.grad_dtype))
        bound = [self.addresses[0], *self.addresses[2:]]
        self.bound_table = np.array(bound, dtype=np.int64).tobytes()
        return Addresses(made, 2 + len(self.looked_up), self.addresses[1])

    def _pieces(self) -> list[list[int]]:
        """Addresses of states, some of them coded: first all codes and plain states, then all scales."""
        held = [[pieces(s[key]) for s in self.states] for key in self.keys]
        first = [[tensors[0].data_ptr() for tensors in column] for column in held]
        scales = [column for key, column in zip(self.keys, held, strict=True) if key in self.coded]
        return first + [[tensors[1].data_ptr() for tensors in column] for column in scales]

    def bind(self) -> None:
        """Write all addresses but the gradients' into the tables."""
        self.addresses, self.found, self.tried = self._current(), None, False
        self.slots[:, 0] = self.addresses[0]
        for index in range(len(self.keys) + len(self.coded)):
            self.slots[:, 2 + index] = self.addresses[2 + index]
        for index in range(len(self.cell_keys)):
            self.cells[:, index] = self.addresses[index - len(self.cell_keys)]

    def ready(self) -> Ready:
        """Take over the new gradients' addresses, if last step's tables still hold.

        Returns:
            ``"ready"``; ``"staged"`` if gradients or parameters must be copied into place first; ``"stale"``
            if tensors have gone, come or changed their dtype, and must be bound anew.
        """
        if self.gathered:  # in new memory at every step
            whole = [m.gradient(m.param) for m in self.members]
            return "staged" if all(map(self._usable, self.params, whole)) else "stale"
        try:
            if not self._unmoved():
                return "stale"
            grads = self._grads()
            found = self._in_place(grads)
        except (
            AttributeError,
            IndexError,
            KeyError,
            RuntimeError,
            TypeError,
        ):  # no gradient, no state, a sparse gradient
            return "stale"
        if not len(found):
            return "staged" if all(map(self._usable, self.params, grads)) else "stale"
        self.slots[:, 1] = found
        return "ready"

    def _grads(self) -> list[Any]:
        """What stands for each gradient, or None."""
        if self.sharded:
            found: list[Any] = [m.gradient(m.param) for m in self.members]
            return found
        return list(map(_grad, self.params))

    def _in_place(self, grads: list[Any]) -> Sequence[int] | npt.NDArray[np.int64]:
        """Addresses of the gradients; none if the kernel cannot read all of them where they are."""
        if self.found is not None and self.found.find(0, grads, self.dtypes[1]):
            addresses: npt.NDArray[np.int64] = self.found.table[0]
            return addresses
        if self.plain:
            # Nearly always every one is usable, and this finds it soonest.
            sizes = list(map(Tensor.numel, grads)) if all(map(Tensor.is_contiguous, grads)) else []
            if sizes == self.addresses[1] and {g.dtype for g in grads} == {self.grad_dtype}:
                return list(map(_address, grads))
        if not all(map(self._usable, self.params, grads)):
            return []
        pairs = [(real(p.detach()), real(g)) for p, g in zip(self.params, grads, strict=True)]
        good = [self.usable(p) and self.usable(g) and same_layout(p, g) for p, g in pairs]
        return [g.data_ptr() for _, g in pairs] if all(good) else []

    def _usable(self, p: Tensor, g: Tensor | None) -> bool:
        known = g is not None and g.dtype is self.grad_dtype and g.layout is torch.strided
        return known and g is not None and g.shape == p.shape

    @torch.no_grad()
    def stage(self) -> None:
        """Bind gradients in any layout: copy into place what the kernel cannot read where it is.

        Parameters in one dense block are updated where they are; others through a contiguous copy, which
        :meth:`finish` writes back.
        """
        self.bind()
        for row, member in enumerate(self.members):
            p, g = real(member.param.detach()), real(member.dense_gradient())
            if not self.usable(p):
                self.copies.append((p, p.contiguous()))
                p = self.copies[-1][1]
                self.slots[row, 0] = p.data_ptr()
            if not (is_dense(g) and same_layout(p, g)):
                found, g = g, torch.empty_like(p, dtype=g.dtype).copy_(g)
                if self.clears:
                    self.copies.append((found, g))
            self.kept.append(g)
            self.slots[row, 1] = g.data_ptr()

    def run(self, numbers: list[float], threads: int) -> None:
        """Run all passes on the bound addresses."""
        if numbers != self.numbers:
            self.hypers[: len(numbers)] = numbers
            self.numbers = numbers
        if self.program.draws:
            self._draw()
        self._tell_autograd()  # first, while what it writes to has just been looked at
        self.kernel.call(self.context_address, self.plan.threads(threads, self.program.work))
        self._write_back()

    def run_pass(self, number: int, numbers: list[float], threads: int) -> None:
        """Run one pass; the caller looks after sums over the whole model, and calls :meth:`finish`."""
        self.hypers[: len(numbers)] = numbers
        self.numbers = numbers
        if self.program.passes[number].draws:
            self._draw()
        first, end = CONTEXT["first_pass"], CONTEXT["end_pass"]
        self.context[first], self.context[end] = number, number + 1
        self.kernel.call(self.context_address, self.plan.threads(threads, self.program.work))
        self.context[first], self.context[end] = 0, len(self.program.passes)

    def total(self, index: int) -> Any:
        """A sum over all tensors; a number, or a tensor on the device where it was added up."""
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

    def _draw(self) -> None:
        """A new key of random bits for every tensor, from torch's default generator."""
        keys = torch.randint(2**63 - 1, (len(self.members),), dtype=torch.int64, device="cpu")
        self.slots[:, -1] = keys.numpy()

    def finish(self) -> None:
        """Tell autograd that the parameters have changed, and write copies back."""
        self._tell_autograd()
        self._write_back()

    def _tell_autograd(self) -> None:
        if self.moves:
            torch.autograd.graph.increment_version(self.params)
            if self.sharded:  # a DTensor and its part count on their own
                torch.autograd.graph.increment_version([m.whole for m in self.members if m.part])
        if self.clears:
            grads = [m.whole.grad for m in self.members]
            torch.autograd.graph.increment_version([g for g in grads if g is not None])

    def _write_back(self) -> None:
        if self.kept:
            for original, copy in self.copies:
                original.copy_(copy)
            if self.copies:  # their addresses are nobody's any more
                self.slots[:, 0] = self.addresses[0]
            self.copies, self.kept = [], []


def _holder(state: MutableMapping[str, Any], key: str) -> Mapping[str, Any]:
    """The dict in which a name is looked up; numbers made for a tensor lie over its state."""
    return next((m for m in state.maps if key in m), {}) if isinstance(state, ChainMap) else state


def matrices(p: Tensor) -> tuple[int, int, int]:
    """How many matrices the last two dimensions make, with how many rows and columns."""
    rows, columns = p.shape[-2:]
    return p.numel() // max(1, rows * columns), rows, columns


Binding = CpuBinding | EagerBinding


def needs_others(binding: Summing) -> bool:
    """Whether a pass must wait for sums over tensors of other bindings, or over parts on other ranks."""
    return binding.program.over_model or bool(binding.program.sums and binding.rows)


def add_up_model_sums(bindings: Sequence[Binding], number: int) -> None:
    """After a pass, give every tensor of every binding the sums that go over all of them."""
    for place in range(max(len(b.program.sums) for b in bindings)):
        columns = [(b, _model_sum_index(b.program, number, place)) for b in bindings]
        taking_part = [(b, i) for b, i in columns if i is not None]
        total: Any = 0.0
        for b, i in taking_part:
            found = b.total(i)
            on_device = isinstance(found, Tensor) and isinstance(total, Tensor)
            total = found + (total.to(found.device) if on_device else total)
        for b, i in taking_part:
            b.give(i, total)


def _model_sum_index(program: Program, number: int, place: int) -> int | None:
    """Index of the place-th model-wide sum of a pass; None if there are fewer."""
    if number >= len(program.passes):
        return None
    part = program.passes[number]
    found = [part.first_sum + i for i, s in enumerate(part.sums) if s.scope == "model"]
    return found[place] if place < len(found) else None


def read_numbers(group: Mapping[str, Any], names: Sequence[tuple[str, int | None]]) -> list[Any]:
    """A group's numbers in the order of the program, tensors as they are; ``betas`` and the like by index."""
    return [group[key] if index is None else group[key][index] for key, index in names]


def run_alone(binding: Binding, numbers: list[float], threads: int) -> None:
    """Run all passes of a binding that shares no sum with another one."""
    if not (binding.program.sums and binding.rows):
        binding.run(numbers, threads)
        return
    for number in range(len(binding.program.passes)):
        binding.run_pass(number, numbers, threads)
        add_up_parts([binding], number)
    binding.finish()
