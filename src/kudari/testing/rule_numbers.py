"""Claims about a rule's numbers; each yields its counterexamples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kudari.compile.codecs import SMALLEST_CODED
from kudari.compile.cpu import target
from kudari.compile.notation import Hyper, Option
from kudari.errors import KudariError
from kudari.optim.describe import defaults
from kudari.testing.rule_runs import (
    SHAPES,
    Backend,
    Case,
    Subject,
    candidates,
    gradients,
    legal,
    oracle_run,
    plain,
    start,
)

SMALL = ((6, 8), (5,))


def label(case: Case) -> str:
    """A configuration as people write it."""
    return ", ".join(f"{k}={v!r}" for k, v in case.items()) or "defaults"


def oracle(subject: Subject) -> Iterator[str]:
    """Every configuration follows the oracle in float64; the last one with maximize as well."""
    runs = [(case, False) for case in subject.cases] + [(subject.cases[-1], True)]
    for case, maximize in runs:
        found = subject.run(case, subject.steps, maximize=maximize)
        want = oracle_run(subject, case, subject.steps, torch.float64, -1 if maximize else 1)
        also = " with maximize" if maximize else ""
        for shape, a, b, first in zip(SHAPES, found, want, start(SHAPES), strict=True):
            if not a.numel():
                continue
            moved = np.abs(b - first.numpy()).max()
            off = np.abs(a.numpy() - b).max()
            # Twenty roundings of p on the way, for steps that are tiny beside p.
            if not off <= subject.bounds.float64 * moved + 20 * np.finfo(np.float64).eps * np.abs(b).max():
                yield (
                    f"{label(case)}{also}: after {subject.steps} steps a tensor of shape {shape} is off by "
                    f"{off:.2g}, having moved by {moved:.2g}"
                )


def backends(subject: Subject) -> Iterator[str]:
    """Every backend ends where the first one does, in float64, states included."""
    for case in subject.cases:
        ends = {}
        for backend in subject.backends:
            params = [backend.parameter(x) for x in start(SHAPES)]
            optimizer = subject.build(params, case)
            subject.walk(optimizer, range(8))
            ends[backend.name] = [{"p": p, **optimizer.state.get(p, {})} for p in params]
        first, *others = ends.items()
        for name, states in others:
            for shape, a, b in zip(SHAPES, first[1], states, strict=True):
                for key in [k for k in a if isinstance(a[k], Tensor)]:
                    if key not in b or not _near(plain(a[key]), plain(b[key]), subject.bounds.float64):
                        yield f"{label(case)}: {key} of shape {shape} differs between {first[0]} and {name}"


def _near(a: Tensor, b: Tensor, share: float) -> bool:
    size = float(b.abs().max()) if b.numel() else 0.0
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=share * size, equal_nan=True)


def float32(subject: Subject) -> Iterator[str]:
    """float32 stays near float64: one step within a few ulp, a trajectory within a share of its length."""
    for case in subject.cases:
        origin = start(SHAPES, torch.float32)
        # The float64 run from what float32 can hold, not from the exact start.
        params = [torch.nn.Parameter(x.double()) for x in origin]
        optimizer = subject.build(params, case)
        ends = {5: subject.walk(optimizer, range(5)), 30: subject.walk(optimizer, range(5, 30))}
        for backend in subject.backends:
            # Others than the first are held to it in float64 by the claim before, and are slow.
            steps = 30 if backend is subject.backends[0] else 5
            exact = ends[steps]
            found = subject.run(case, steps, torch.float32, backend=backend)
            for shape, a, b, first in zip(SHAPES, found, exact, origin, strict=True):
                if a.numel() and (off := _off(a, b, first, subject.bounds.float32, steps)):
                    yield f"{label(case)} on {backend.name}: after {steps} steps shape {shape} is {off}"
            if subject.elementwise(case):
                yield from _one_step(subject, case, backend)


def _one_step(subject: Subject, case: Case, backend: Backend) -> Iterator[str]:
    """One float32 step and one float64 step from the same numbers, at the beginning and in the middle."""
    shape = ((1024,),)
    narrow = backend.parameter(start(shape, torch.float32)[0])
    first = subject.build([narrow], case)
    for step in range(4):
        wide = torch.nn.Parameter(plain(narrow).double())
        before = wide.detach().clone()
        second = subject.build([wide], case)
        if step:
            second.load_state_dict(first.state_dict())
        if step in (0, 3):
            subject.walk(second, range(step, step + 1))
        subject.walk(first, range(step, step + 1))
        if step in (0, 3):
            off = _ulps(plain(narrow), wide.detach(), before)
            if not off <= subject.bounds.ulp:
                yield f"{label(case)} on {backend.name}: step {step + 1} in float32 is off by {off:.2g} ulp"


def _ulps(a: Tensor, b: Tensor, before: Tensor) -> float:
    """Distance in units in the last place of float32, where the update does not nearly cancel p."""
    far = b.abs() > 4 * (b - before).abs()
    a, b = a[far], b[far]
    size = b.abs().float()
    unit = torch.nextafter(size, torch.tensor(torch.inf)) - size
    return float(((a.double() - b).abs() / unit.double()).max()) if a.numel() else 0.0


def low_precision(subject: Subject) -> Iterator[str]:
    """A bf16 or fp16 parameter is read, updated in float32 and rounded once; its states are float32."""
    case, shape = subject.cases[-1], (257,)
    for backend in subject.backends:
        for dtype in (torch.bfloat16, torch.float16):
            (data,) = start((shape,), dtype)
            narrow, wide = backend.parameter(data), backend.parameter(data.float())
            g = gradients(0, (shape,))[0].clamp(-8, 8).to(dtype)
            narrow.grad, wide.grad = g, g.float()
            for p in (narrow, wide):
                optimizer = subject.build([p], case)
                subject.step(optimizer, 0)
            if not torch.equal(plain(narrow), plain(wide).to(dtype)):
                yield f"{label(case)} on {backend.name}: a step in {dtype} is not the float32 step, rounded"


def low_bit_states(subject: Subject) -> Iterator[str]:
    """States in 8 bits or bfloat16 lead near where float32 ones lead, and on every backend alike."""
    case, steps, shapes = subject.cases[-1], 10, ((SMALLEST_CODED + 37,),)
    (first,) = start(shapes, torch.float32)
    (exact,) = subject.run(case, steps, torch.float32, shapes)
    way, bound = float((exact - first).norm()), subject.bounds.low_bit
    for kept in ("8bit", "bf16"):
        ends = [
            subject.run(case, steps, torch.float32, shapes, backend, state_dtype=kept)[0]
            for backend in subject.backends
        ]
        where = f"{label(case)}, state_dtype={kept!r}"
        if not (off := float((ends[0] - exact).norm())) <= bound * way:
            yield (
                f"{where}: off by {off:.2g}, float32 states having moved by {way:.2g}. A state that is never "
                "negative, and only such a one, is declared non_negative=True; one that must not be rounded, "
                "full_precision=True"
            )
        # A last bit that differs moves a value from one code to the next now and then.
        for backend, end in zip(subject.backends[1:], ends[1:], strict=True):
            if not (off := float((end - ends[0]).norm())) <= bound / 5 * way:
                yield (
                    f"{where}: {backend.name} and {subject.backends[0].name} are {off:.2g} apart, having "
                    f"moved by {way:.2g}"
                )


def effect(subject: Subject) -> Iterator[str]:
    """Another value of each hyper-parameter and option leads somewhere else in one of the cases."""
    cases = [{**defaults(subject.rule), **case} for case in reversed(subject.cases)]
    ends: list[list[Tensor] | None] = [None] * len(cases)

    def differs(number: int, other: Case) -> bool:
        there = subject.run(other, 8, shapes=SMALL)
        here = ends[number] = ends[number] or subject.run(cases[number], 8, shapes=SMALL)
        return not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(here, there, strict=True))

    for declared in subject.rule.declared:
        for index in range(len(declared.default)) if isinstance(declared.default, tuple) else (None,):
            if declared.name in subject.no_effect:
                continue
            place = declared.name if index is None else f"{declared.name}[{index}]"
            others = [(i, other) for i, case in enumerate(cases) for other in _others(declared, index, case)]
            tries = [(i, other) for i, other in others if legal(subject.rule, other)]
            if not tries:
                yield f"no case allows another {place}; pass cases=[...] with one that does"
            elif not any(differs(i, other) for i, other in tries):
                yield f"{place} has no effect: {len(tries)} other values lead to the same parameters"


def _others(declared: Hyper | Option, index: int | None, case: Case) -> Iterator[Case]:
    """A configuration with other values at one place."""
    value = case[declared.name]
    if isinstance(declared, Option):
        yield from ({**case, declared.name: c} for c in declared.choices if c != value)
    elif index is None:
        yield from ({**case, declared.name: v} for v in candidates(declared, value))
        if declared.optional and value is not None:
            yield {**case, declared.name: None}
    else:
        for other in candidates(declared, value[index]):
            yield {**case, declared.name: (*value[:index], other, *value[index + 1 :])}


def sizes(subject: Subject) -> Iterator[str]:
    """0 and 1 elements, and numbers of them around the width of a vector: right, nothing written beside."""
    case, guard, width = subject.cases[-1], 64, max(target().width // 4, 4)
    counts = sorted({0, 1, *(n + d for n in (width // 2, width, 3 * width) for d in (-1, 0, 1))})
    shapes = [(n,) for n in counts]
    for backend in subject.backends:
        around = [torch.full((n + 2 * guard,), 7.5) for n in counts]
        inside = [x[guard:-guard] for x in around]
        for x, value in zip(inside, start(shapes, torch.float32), strict=True):
            x.copy_(value)
        wide = [torch.nn.Parameter(x.double()) for x in inside]
        before = [p.detach().clone() for p in wide]
        found = subject.walk(subject.build([backend.parameter(x) for x in inside], case), range(3))
        exact = subject.walk(subject.build(wide, case), range(3))
        for n, x, a, b, first in zip(counts, around, found, exact, before, strict=True):
            where = f"{n} elements on {backend.name}"
            if not bool((torch.cat([x[:guard], x[-guard:]]) == 7.5).all()):
                yield f"{where}: memory beside the parameter was written to"
            # Ten times the share of a long trajectory: three steps move little, and moments are young.
            if n and (off := _off(a, b, first, 10 * subject.bounds.float32, 3)):
                yield f"{where}: {off}"


def _off(a: Tensor, b: Tensor, first: Tensor, share: float, steps: int) -> str:
    """How far float32 is from float64, if that is more than a share of the way and the roundings of p."""
    moved, off = float((b - first).abs().max()), float((a - b).abs().max())
    rounding = steps * torch.finfo(torch.float32).eps * float(b.abs().max())
    return "" if off <= share * moved + rounding else f"off by {off:.2g}, having moved by {moved:.2g}"


def nonfinite(subject: Subject) -> Iterator[str]:
    """A NaN in a gradient shows in its parameter; neither it nor an infinity spreads to other tensors."""
    for case in subject.cases:
        for bad in (torch.nan, torch.inf):
            try:
                a, b, twin = _with_a_bad_number(subject, case, bad)
            except KudariError:
                continue  # matrix classes may refuse
            if bad is torch.nan and not bool(a.view(-1)[17].isnan()):
                yield f"{label(case)}: a NaN in the gradient does not show in the parameter"
            if not subject.over_model(case) and not torch.equal(b, twin):
                yield f"{label(case)}: {bad} in one tensor changes another one"
            if subject.elementwise(case) and int((~a.isfinite()).sum()) > 1:
                yield f"{label(case)}: {bad} in one element shows in others"


def _with_a_bad_number(subject: Subject, case: Case, bad: float) -> list[Tensor]:
    """A tensor with a bad number in a gradient, one beside it, and one beside a healthy tensor."""
    shape = (5, 8)
    params = [torch.nn.Parameter(torch.ones(shape)) for _ in range(4)]
    optimizers = [subject.build(params[:2], case), subject.build(params[2:], case)]
    for step in range(3):
        for p in params:
            p.grad = gradients(step, [shape])[0]
        if step == 1 and params[0].grad is not None:
            params[0].grad[2, 1] = bad
        for optimizer in optimizers:
            subject.step(optimizer, step)
    return [params[i].detach() for i in (0, 1, 3)]


CLAIMS = (oracle, backends, float32, low_precision, low_bit_states, effect, sizes, nonfinite)
