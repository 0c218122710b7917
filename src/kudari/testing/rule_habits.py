"""Claims about how a rule's optimizer behaves; each yields its counterexamples."""

from __future__ import annotations

import inspect
import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kudari.compile import plan
from kudari.compile.cpu import compile_cpu
from kudari.compile.notation import Hyper
from kudari.errors import KudariError
from kudari.optim.describe import defaults, describe
from kudari.testing.rule_numbers import label
from kudari.testing.rule_runs import SHAPES, Subject, gradients, plain, start


def gradient(subject: Subject) -> Iterator[str]:
    """Gradients are read and never written, replaced or kept."""
    for case in subject.cases:
        for backend in subject.backends:
            params = [backend.parameter(x) for x in start(SHAPES, torch.float32)]
            given = gradients(0, SHAPES)
            for p, g in zip(params, given, strict=True):
                p.grad = g.clone()
            kept = [p.grad for p in params]
            optimizer = subject.build(params, case, maximize=True)
            for step in range(2):
                subject.step(optimizer, step)
            where = f"{label(case)} on {backend.name}"
            for p, g, k in zip(params, given, kept, strict=True):
                if p.grad is not k:
                    yield f"{where}: p.grad was replaced by another tensor"
                elif k is not None and not torch.equal(plain(k), g):
                    yield f"{where}: the step wrote to p.grad of shape {tuple(g.shape)}"
            places = {k.untyped_storage().data_ptr() for k in kept if k is not None and k.numel()}
            for state in optimizer.state.values():
                for key, value in state.items():
                    if isinstance(value, Tensor) and value.untyped_storage().data_ptr() in places:
                        yield f"{where}: state {key} shares memory with p.grad"


def threads(subject: Subject) -> Iterator[str]:
    """The same bits for any number of threads."""
    case, before, worth = subject.cases[-1], torch.get_num_threads(), plan.PER_THREAD
    shapes = ((70_001,), (90, 101), (5,))
    try:
        plan.PER_THREAD = 1  # so that tensors of a size to try things on are shared out
        for dtype, counts in ((torch.float32, (2, 3)), (torch.float64, (2,))):
            torch.set_num_threads(1)
            one = subject.run(case, 2, dtype, shapes)
            for count in counts:
                torch.set_num_threads(count)
                if not _same(one, subject.run(case, 2, dtype, shapes)):
                    yield f"{label(case)}: {count} threads give other bits than one in {dtype}"
    finally:
        torch.set_num_threads(before)
        plan.PER_THREAD = worth


def split(subject: Subject) -> Iterator[str]:
    """The same bits however elements are split into tensors and tensors into groups."""
    for case in subject.cases:
        if not subject.over_model(case):
            yield from _company(subject, case)
    case, size = subject.cases[-1], 33_000
    if not subject.elementwise(case):
        return
    (data,) = start([(size,)], torch.float32)
    grads = [gradients(step, [(size,)])[0] for step in range(2)]

    def end(cuts: list[int]) -> Tensor:
        params = [torch.nn.Parameter(x.clone()) for x in torch.split_with_sizes(data, cuts)]
        optimizer = subject.build(params, case)
        for step, g in enumerate(grads):
            for p, part in zip(params, torch.split_with_sizes(g, cuts), strict=True):
                p.grad = part.clone()
            subject.step(optimizer, step)
        return torch.cat([p.detach() for p in params])

    whole = end([size])
    for cut in (1, 13, size - 1):
        if not torch.equal(whole, end([cut, size - cut])):
            yield f"{label(case)}: {size} elements cut at {cut} give other bits than uncut"


def _company(subject: Subject, case: Any) -> Iterator[str]:
    """A tensor ends at the same bits alone, beside others, and in a group of its own."""

    def end(arrange: Callable[[list[torch.nn.Parameter]], list[Any]]) -> list[Tensor]:
        params = [torch.nn.Parameter(x) for x in start(SHAPES, torch.float32)]
        optimizers = [subject.build(part, case) for part in arrange(params)]
        for step in range(2):
            for p, g in zip(params, gradients(step, SHAPES), strict=True):
                p.grad = g
            for optimizer in optimizers:
                subject.step(optimizer, step)
        return [p.detach() for p in params]

    together = end(lambda ps: [ps])
    if not _same(together, end(lambda ps: [[p] for p in ps])):
        yield f"{label(case)}: a tensor alone gives other bits than beside others"
    if not _same(together, end(lambda ps: [[{"params": [p]} for p in ps]])):
        yield f"{label(case)}: tensors in groups of their own give other bits than in one group"


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.t().contiguous().t(),
    "every second column": lambda x: torch.stack([x, x + 1], -1).flatten(1)[:, ::2],
    "offset by one element": lambda x: torch.cat([torch.zeros(1), x.flatten()])[1:].view(x.shape),
}


def strides(subject: Subject) -> Iterator[str]:
    """The same bits for any strides of parameter and gradient; storage and strides stay.

    Sums go through a tensor in the order of memory, so where there are some the last places may differ.
    """
    case, shape = subject.cases[-1], (13, 11)
    close = torch.equal if subject.elementwise(case) else _to_the_last_places

    def same(x: Tensor) -> Tensor:
        return x.clone()

    def end(p: torch.nn.Parameter, of_gradient: Callable[[Tensor], Tensor]) -> Tensor:
        optimizer = subject.build([p], case)
        for step in range(3):
            p.grad = of_gradient(gradients(step, [shape])[0])
            subject.step(optimizer, step)
        return p.detach()

    data = start([shape], torch.float32)[0]
    want = end(torch.nn.Parameter(data.clone()), same)
    for name, change in LAYOUTS.items():
        for of_p, of_g, who in (
            (change, same, "parameter"),
            (same, change, "gradient"),
            (change, change, "both"),
        ):
            p = torch.nn.Parameter(of_p(data))
            place = p.stride(), p.data_ptr()
            if not close(want, end(p, of_g)):
                yield f"{label(case)}: {who} {name} gives other bits than contiguous"
            if (p.stride(), p.data_ptr()) != place:
                yield f"{label(case)}: a parameter {name} was moved to another place"


def _to_the_last_places(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-6, atol=1e-6)


def mixed_dtypes(subject: Subject) -> Iterator[str]:
    """Dtypes in one group do not touch each other."""
    case = subject.cases[-1]
    if subject.over_model(case):
        return
    dtypes = (torch.float32, torch.bfloat16, torch.float64, torch.float32)

    def params() -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(start([(33,)], d, seed=i)[0]) for i, d in enumerate(dtypes)]

    together = params()
    subject.walk(subject.build(together, case), range(3))
    for i, p in enumerate(params()):
        other = subject.build([p], case)
        for step in range(3):
            p.grad = gradients(step, [(33,)] * len(dtypes))[i].to(p.dtype)
            subject.step(other, step)
        if not torch.equal(p.detach(), together[i].detach()):
            yield f"{label(case)}: {p.dtype} at place {i} ends elsewhere beside other dtypes than alone"


def skips(subject: Subject) -> Iterator[str]:
    """A tensor without a gradient is left alone: not moved, not counted, no state; one with it is counted."""
    for case in subject.cases:
        p, idle = (torch.nn.Parameter(x) for x in start([(5,), (5,)], torch.float32))
        before = idle.detach().clone()
        optimizer = subject.build([p, idle], case)
        p.grad = torch.ones(5)
        subject.step(optimizer, 0)
        if not torch.equal(idle.detach(), before) or optimizer.state.get(idle):
            yield f"{label(case)}: a tensor without a gradient was moved or was given a state"
        p.grad, idle.grad = None, torch.ones(5)
        here = p.detach().clone()
        subject.step(optimizer, 1)
        if not torch.equal(p.detach(), here):
            yield f"{label(case)}: a tensor moved in a step without a gradient"
        for count in (optimizer.state[x].get("step", 1) for x in (p, idle)):
            if float(count) != 1:
                yield f"{label(case)}: step is {float(count):g} after one gradient in two steps"


def resume(subject: Subject) -> Iterator[str]:
    """A run that is saved and loaded into a new optimizer goes on bit for bit."""
    for case in subject.cases:
        first = subject.build([torch.nn.Parameter(x) for x in start(SHAPES, torch.float32)], case)
        subject.walk(first, range(4))
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        params = [torch.nn.Parameter(p.detach().clone()) for p in first.param_groups[0]["params"]]
        second = subject.build(params, {k: v for k, v in case.items() if k != "lr"})
        second.load_state_dict(torch.load(file, weights_only=True))
        for shape, a, b in zip(
            SHAPES, subject.walk(first, range(4, 8)), subject.walk(second, range(4, 8)), strict=True
        ):
            if not torch.equal(a, b):
                yield f"{label(case)}: shape {shape} ends elsewhere after a resume"


def recompile(subject: Subject) -> Iterator[str]:
    """Another learning rate, or another value of any number, compiles nothing."""
    case = subject.cases[-1]
    optimizer = subject.build([torch.nn.Parameter(x) for x in start(SHAPES, torch.float32)], case)
    subject.walk(optimizer, range(2))
    group, counted = optimizer.param_groups[0], compile_cpu.cache_info().misses
    for declared in subject.rule.hypers:
        value = group[declared.name]
        if value is None or any(declared.name in (s.when, s.every) for s in subject.rule.states):
            continue
        group[declared.name] = (
            tuple(v and 0.9 * v for v in value) if isinstance(value, (tuple, list)) else 0.9 * value
        )
        subject.walk(optimizer, range(2, 3))
        if compile_cpu.cache_info().misses > counted:
            yield f"another value of {declared.name} compiles the kernel again"
            counted = compile_cpu.cache_info().misses


def ranges(subject: Subject) -> Iterator[str]:
    """Values outside their range are refused with name, value and range, in constructor and groups."""
    for name, value, words in _illegal(subject):
        p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
        try:
            subject.cls([p], **{name: value})
        except ValueError as error:
            yield from (
                f"the refusal of {name}={value!r} does not say {w!r}" for w in words if w not in str(error)
            )
        else:
            yield f"{name}={value!r} is accepted by the constructor; expected {words[-1]}"
            continue
        optimizer = subject.cls([p])
        try:
            optimizer.add_param_group({"params": [q], name: value})
        except ValueError:
            if len(optimizer.param_groups) != 1:
                yield f"the group with {name}={value!r} was refused and added"
        else:
            yield f"{name}={value!r} is accepted in a group; expected {words[-1]}"


def _illegal(subject: Subject) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Name, a value that is not allowed, and what the message must say."""
    rule = subject.rule
    for declared in rule.declared:
        if not isinstance(declared, Hyper):
            yield (
                declared.name,
                "neither",
                (rule.name, f"{declared.name}='neither'", repr(declared.choices[0])),
            )
            continue
        default = declared.default
        several = isinstance(default, tuple)
        for index in range(len(default)) if isinstance(default, tuple) else (0,):
            place = f"{declared.name}[{index}]" if several else declared.name
            for bad in _outside(declared):
                value = (*default[:index], bad, *default[index + 1 :]) if isinstance(default, tuple) else bad
                yield declared.name, value, (rule.name, f"{place}={bad!r}", declared.range_text(place))
        if isinstance(default, tuple):
            yield declared.name, default[1:], (rule.name, declared.name, f"{len(default)} numbers")
    yield "differentiable", True, (rule.name, "differentiable=True", "expected False")


def _outside(declared: Hyper) -> Iterator[float]:
    yield math.nan
    if declared.at_least is not None:
        yield declared.at_least - 1.0
    if declared.at_most is not None:
        yield declared.at_most + 1.0
    yield from (float(edge) for edge in (declared.above, declared.below) if edge is not None)


def prints(subject: Subject) -> Iterator[str]:
    """The formula prints, and the docstring names every argument."""
    for case in subject.cases:
        found = describe(subject.rule, {**defaults(subject.rule), **case})
        if not found.text or found.formula.count("{") != found.formula.count("}"):
            yield f"{label(case)}: the formula does not print: {found.formula!r}"
    for declared in subject.rule.declared:
        if f"{declared.name}:" not in (inspect.getdoc(subject.cls) or ""):
            yield f"the docstring does not say what {declared.name} is"


def refuses_misspelt(subject: Subject) -> Iterator[str]:
    """An argument that does not exist is refused by its name."""
    try:
        subject.cls([torch.nn.Parameter(torch.ones(2))], learning_rte=0.1)
    except (TypeError, KudariError) as error:
        if "learning_rte" not in str(error):
            yield "the refusal of an unknown argument does not name it"
    else:
        yield "an unknown argument is accepted"


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


CLAIMS = (
    gradient, threads, split, strides, mixed_dtypes, skips, resume, recompile, ranges, prints,
    refuses_misspelt,
)  # fmt: skip
