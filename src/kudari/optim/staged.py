"""Bindings of rules that call stages: kernels before and after, the stage on whole tensors between them."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kudari.compile.cut import TEMPORARY, Call, Piece
from kudari.compile.expression import evaluate
from kudari.compile.program import Program, sum_name
from kudari.compile.stage import Work, find
from kudari.compile.trace import Trace
from kudari.errors import UnsupportedError
from kudari.optim.backends import Backend
from kudari.optim.binding import CpuBinding, run_alone
from kudari.optim.eager_binding import EagerBinding
from kudari.optim.exchange import run_shared
from kudari.optim.members import Member, Ready, dense_like, in_rows, same_layout
from kudari.optim.sharding import Ranks
from kudari.optim.states import codec_in, decode, encode, is_coded, is_dense

Binding = CpuBinding | EagerBinding
BindPart = Callable[[Trace, Sequence[Member], torch.dtype, Backend | None, bool], Binding]

# Elements of the tensors that go through a step together; their temporaries are alive at the same time.
TOGETHER = 1 << 24


def fit_factors(name: str, p: Tensor, state: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Check that lists of factors are those of a parameter of this shape.

    Args:
        name: the optimizer's, for the message.
        p: the parameter.
        state: its entry in ``optimizer.state``.
        keys: which of them are lists of factors.

    Raises:
        UnsupportedError: a list has not one square matrix of the right size, or None, for each dimension.
    """
    for key in keys:
        sizes = [None if f is None else tuple(f.shape) for f in state[key]]
        if len(sizes) != p.ndim or any(s and s != (n, n) for s, n in zip(sizes, p.shape, strict=True)):
            raise UnsupportedError(
                f"{name}: state {key!r} has factors of sizes {sizes}, its parameter is {tuple(p.shape)}.",
                why="Each factor goes with one dimension; the parameter or the checkpoint is another one.",
                fix="Load a checkpoint of this model, or delete optimizer.state[p] to start that state anew.",
            )


def batches(members: Sequence[Member]) -> list[list[Member]]:
    """Members in runs of about so many elements that their temporaries are few."""
    found: list[list[Member]] = []
    size = TOGETHER
    for member in members:
        if size + member.numel > TOGETHER:
            found.append([])
            size = 0
        found[-1].append(member)
        size += member.numel
    return found


class StagedBinding:
    """The parts of a rule bound to tensors, and the calls between them.

    A temporary lives from the part or stage that makes it to the last one that reads it. Members look like
    any other's to the kernels: their temporaries lie over their state like a sheet of glass.

    Args:
        whole: the rule.
        pieces: its parts and calls, as from :func:`kudari.compile.cut.cut`.
        members: the tensors; all of one dtype per slot.
        grad_dtype: dtype of the gradients.
        backend: what has kernels for the tensors.
        bind: makes the binding of one part.

    Attributes:
        on_device: stages read numbers on the host, so a step cannot be skipped without waiting.
    """

    on_device = False

    def __init__(
        self,
        whole: Trace,
        pieces: Sequence[Piece],
        members: Sequence[Member],
        grad_dtype: torch.dtype,
        backend: Backend | None,
        bind: BindPart,
    ) -> None:
        self.members, self.grad_dtype = list(members), grad_dtype
        self.temporaries: list[dict[str, Any]] = [{} for _ in members]
        self.measures = whole.measures
        self.keys = {s.name: s.key for s in (*whole.states, *(s for s, _ in whole.factors))}
        self.steps: list[tuple[Piece, Binding | None]] = []
        for piece in pieces:
            if isinstance(piece, Call):
                self.steps.append((piece, None))
                continue
            keys = tuple(s.key for s in piece.states)
            cells = (*(s.key for s, _ in piece.cells), *piece.measures)
            views = [
                replace(m, state=ChainMap(own, m.state), keys=keys, cells=cells)
                for m, own in zip(members, self.temporaries, strict=True)
            ]
            self.steps.append((piece, bind(piece, views, grad_dtype, backend, not piece.outputs)))
        self.dead = _last_uses(pieces)
        # A part without outputs computes sums over the model, for which all groups must meet.
        first = self.steps[0][1]
        self.meeting = (
            first if first is not None and not any(p.writes for p in first.program.passes) else None
        )
        self.hypers = self._last.program.hypers
        self.compute = torch.float64 if members[0].param.dtype is torch.float64 else torch.float32
        self.addresses = self._current()

    @property
    def _last(self) -> Binding:
        return next(b for _, b in reversed(self.steps) if b is not None)

    @property
    def program(self) -> Program:
        """The program of the first part that others may have to wait for, or of the last one."""
        return (self.meeting or self._last).program

    def sums_here(self) -> npt.NDArray[np.float64]:
        """What :attr:`program` has summed."""
        found: npt.NDArray[np.float64] = (self.meeting or self._last).sums_here()
        return found

    @property
    def rows(self) -> Mapping[Ranks, npt.NDArray[np.intp]]:
        """Where :attr:`program` sums over ranks."""
        return (self.meeting or self._last).rows

    def _current(self) -> list[Any]:
        """What must not change from step to step: addresses of parameters and states, kinds of gradients."""
        found: list[Any] = []
        for m in self.members:
            g = m.gradient(m.param)
            usable = g is not None and g.layout is torch.strided and g.dtype is self.grad_dtype
            states = [x.data_ptr() if isinstance(x, Tensor) else id(x) for x in m.state.values()]
            found.append((m.param.data_ptr(), m.param.shape, usable, m.param.dtype, states))
        return found

    def ready(self) -> Ready:
        """Whether the tensors are still the ones bound; gradients may lie in any way."""
        current = self._current()
        return (
            "staged" if current == self.addresses and all(usable for _, _, usable, *_ in current) else "stale"
        )

    def stage(self) -> None:
        """Each part takes over all addresses right before it runs; the first one may run right away."""
        if self.meeting is not None:
            self.meeting.stage()

    def finish(self) -> None:
        """Nothing to do: each part has told autograd itself."""

    def run(self, numbers: list[float], threads: int) -> None:
        """Run all parts and stages but for sums over the model, which have been computed."""
        kind = self.members[0].param.device.type
        with torch.no_grad(), torch.autocast(kind, enabled=False):
            if "t" in self.hypers and self.meeting is None:
                for m in self.members:
                    m.counter.add_(1)
            numbers = [*numbers, *self._model_sums(numbers)]
            values = [self._numbers(m, numbers) for m in self.members]
            for number, (piece, binding) in enumerate(self.steps):
                if isinstance(piece, Call):
                    self._call(piece, values)
                elif binding is not None and binding is not self.meeting:
                    self._make_room(name for name, _ in piece.outputs)
                    binding.stage()
                    run_alone(binding, numbers, threads)
                for own in self.temporaries:
                    for name in self.dead[number]:
                        own.pop(TEMPORARY + name, None)

    def _model_sums(self, numbers: list[float]) -> list[float]:
        """Sums over the model, in the order of their names."""
        if self.meeting is None:
            return []
        program = self.meeting.program
        values = dict(zip(program.hypers, numbers, strict=False))
        values |= {sum_name(i): float(x) for i, x in enumerate(self.meeting.sums_here()[0])}
        return [evaluate(e, values) for _, e in program.running]

    def _numbers(self, m: Member, numbers: list[float]) -> dict[str, float]:
        """The numbers that a tensor's stages are given."""
        values = dict(zip(self.hypers, numbers, strict=False))
        values |= {name: float(m.state[name]) for name in self.measures}
        return values | {"t": float(m.counter), "numel": float(m.numel)}

    def _make_room(self, names: Iterable[str]) -> None:
        """A new tensor for each temporary that a part writes."""
        for name in names:
            if name not in self.keys and name != "p":
                for m, own in zip(self.members, self.temporaries, strict=True):
                    own[TEMPORARY + name] = self._room(m)

    def _room(self, m: Member) -> Tensor:
        """An uninitialised temporary, in the layout that the parts go through the tensor in."""
        like = m.param.detach()
        return dense_like(like.contiguous() if in_rows(m) else like, self.compute)

    def _call(self, call: Call, values: Sequence[Mapping[str, float]]) -> None:
        """Run a stage on the tensors whose turn it is."""
        stage, variant = find(call.name)
        rows = [i for i, known in enumerate(values) if evaluate(call.when, dict(known))]
        works = [
            Work(
                tuple(self._value(i, name) for name in call.inputs),
                tuple(evaluate(e, dict(values[i])) for e in call.numbers),
                variant,
            )
            for i in rows
        ]
        found = dict(zip(rows, run_shared(stage, works, [self.members[i].whole for i in rows]), strict=True))
        for i in range(len(self.members)):
            new = found[i] if i in found else [self._value(i, name) for name in call.inputs]
            for name, value in zip(call.outputs, new, strict=False):
                if name:
                    self._keep(i, name, value)

    def _value(self, row: int, name: str) -> Any:
        """A tensor in the type of the arithmetic and in rows, so that strides change no bit; or factors."""
        member = self.members[row]
        if name == "g":
            found: Any = member.dense_gradient()
        elif name == "p":
            found = member.param.detach()
        else:
            key = self.keys.get(name)
            found = self.temporaries[row][TEMPORARY + name] if key is None else member.state[key]
        found = decode(found) if is_coded(found) else found
        return found if isinstance(found, list) else found.to(self.compute).contiguous()

    def _keep(self, row: int, name: str, value: Any) -> None:
        """Take over what a stage has made: into a state where it lies, or as a temporary."""
        member = self.members[row]
        if name in self.keys:
            kept = member.state[self.keys[name]]
            if is_coded(kept):
                kept.update(encode(value, codec_in(kept)))
                return
            pairs = zip(kept, value, strict=True) if isinstance(kept, list) else [(kept, value)]
            for old, new in pairs:
                if new is not old:
                    old.copy_(new)
            return
        like = self._room(member)
        fits = value.dtype is self.compute and is_dense(value) and same_layout(value, like)
        self.temporaries[row][TEMPORARY + name] = value if fits else like.copy_(value)


def _last_uses(pieces: Sequence[Piece]) -> list[set[str]]:
    """For each piece, the names that nothing after it reads."""
    found: list[set[str]] = []
    later: set[str] = set()
    for piece in reversed(pieces):
        names = {*piece.inputs, *piece.outputs} if isinstance(piece, Call) else {*piece.slots}
        found.append(names - later)
        later |= names
    return found[::-1]
