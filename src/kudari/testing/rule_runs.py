"""What the exam of rules runs: tensors, gradients, configurations and places to take a step."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kudari.compile.notation import Hyper, Rule
from kudari.errors import KudariError
from kudari.optim import bound_group, hypers
from kudari.optim.describe import defaults, programs
from kudari.optim.optimizer import RuleOptimizer
from kudari.testing.interpreted import Interpreted, interpreting

Float64s = npt.NDArray[np.float64]
Case = Mapping[str, Any]
Shapes = Sequence[tuple[int, ...]]

# A matrix, a kernel, a vector with a tail, one number, and nothing.
SHAPES: Shapes = ((16, 24), (3, 2, 3, 3), (33,), (), (0, 3))


class Uncompiled(torch.nn.Parameter):
    """A parameter that no kernel takes, so that plain torch operations take the step."""


@dataclass(frozen=True)
class Backend:
    """A place where steps are taken.

    Attributes:
        name: shown in the report.
        parameter: makes a parameter whose steps are taken there.
    """

    name: str
    parameter: Callable[[Tensor], torch.nn.Parameter]


# Add a backend here, and every rule is examined on it.
BACKENDS = (Backend("cpu", torch.nn.Parameter), Backend("eager", Uncompiled))


def backends_here() -> tuple[Backend, ...]:
    """:data:`BACKENDS`, and the GPU's kernels where Triton interprets them."""
    return (*BACKENDS, Backend("triton", Interpreted)) if interpreting() else BACKENDS


@dataclass(frozen=True)
class WholeModel:
    """An oracle that needs all tensors at once: a norm over the model, one estimate for all of them.

    Attributes:
        step: ``step(params, grads, state, **values) -> params``, lists of float64 arrays, one dict of state.
    """

    step: Callable[..., list[Float64s]]


Oracle = Callable[..., Float64s] | WholeModel


@dataclass(frozen=True)
class Bounds:
    """How far results may be from what they should be.

    Attributes:
        float64: of the distance moved, against the oracle and between backends.
        float32: of the distance moved over a trajectory, beside the roundings of the parameter itself.
        ulp: units in the last place of the parameter after one float32 step.
        low_bit: of the distance moved, between states in 8 bits or bfloat16 and in float32; a fifth of it
            between backends.
    """

    float64: float = 1e-9
    float32: float = 1e-5
    ulp: float = 2.0
    low_bit: float = 0.1


def nothing(optimizer: RuleOptimizer, step: int) -> None:
    """Do nothing before a step."""


@dataclass(frozen=True)
class Subject:
    """Whoever sits the exam, and by which bounds.

    Attributes:
        cls: the optimizer class.
        oracle: the formula in NumPy float64, or None.
        cases: configurations to try.
        backends: places to take steps; others are compared with the first.
        bounds: tolerances.
        steps: length of a trajectory that the oracle is asked about.
        before_step: called with the optimizer and the number of the step, gradients in place.
        no_effect: hyper-parameters and options that act outside of ``step``.
    """

    cls: type[RuleOptimizer]
    oracle: Oracle | None
    cases: tuple[dict[str, Any], ...]
    backends: tuple[Backend, ...] = BACKENDS
    bounds: Bounds = Bounds()
    steps: int = 50
    before_step: Callable[[RuleOptimizer, int], None] = nothing
    no_effect: tuple[str, ...] = ()

    @property
    def rule(self) -> Rule:
        """The rule of the class."""
        return self.cls.rule

    def elementwise(self, case: Case) -> bool:
        """Whether no element looks at another one."""
        return not self.cls._couples and not any(p.sums for p in programs(self.rule, case))

    def over_model(self, case: Case) -> bool:
        """Whether a tensor's step depends on the other tensors."""
        return any(p.over_model for p in programs(self.rule, case))

    def build(self, params: Sequence[Tensor], case: Case, **more: Any) -> RuleOptimizer:
        """The optimizer, ready to step."""
        optimizer = self.cls(params, **{**case, **more})
        if hasattr(optimizer, "train"):
            optimizer.train()
        return optimizer

    def walk(self, optimizer: RuleOptimizer, steps: range) -> list[Tensor]:
        """Take steps along the stream of gradients; copies of the parameters."""
        params = [p for group in optimizer.param_groups for p in group["params"]]
        for step in steps:
            shapes = [tuple(p.shape) for p in params]
            for p, g in zip(params, gradients(step, shapes), strict=True):
                p.grad = g.to(p.dtype)
            self.step(optimizer, step)
        return [plain(p).clone() for p in params]

    def step(self, optimizer: RuleOptimizer, number: int) -> None:
        """One step, with what belongs before it."""
        self.before_step(optimizer, number)
        optimizer.step()

    def run(
        self,
        case: Case,
        steps: int,
        dtype: torch.dtype = torch.float64,
        shapes: Shapes = SHAPES,
        backend: Backend | None = None,
        **more: Any,
    ) -> list[Tensor]:
        """Where a trajectory ends."""
        make = (backend or self.backends[0]).parameter
        return self.walk(self.build([make(x) for x in start(shapes, dtype)], case, **more), range(steps))


def start(shapes: Shapes, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """Parameters as they are before the first step, standard normal."""
    gen = torch.Generator().manual_seed(seed)
    return [torch.randn(s, dtype=torch.float64, generator=gen).to(dtype) for s in shapes]


def gradients(step: int, shapes: Shapes) -> list[Tensor]:
    """The same float32 numbers for everybody: sizes from 1e-3 to 10, one in ten exactly zero."""
    return [g.clone() for g in _gradients(step, tuple(shapes))]


@functools.lru_cache(maxsize=512)
def _gradients(step: int, shapes: Shapes) -> tuple[Tensor, ...]:
    gen = torch.Generator().manual_seed(1000 + step)
    found = []
    for s in shapes:
        size = 10.0 ** torch.randint(-3, 2, s, generator=gen)
        found.append(torch.randn(s, generator=gen) * size * (torch.rand(s, generator=gen) > 0.1))
    return tuple(found)


def plain(p: Tensor) -> Tensor:
    """A parameter's values as an ordinary tensor that shares its memory."""
    return p.detach().as_subclass(Tensor)


def oracle_run(subject: Subject, case: Case, steps: int, dtype: torch.dtype, sign: int) -> list[Float64s]:
    """The same trajectory by the oracle, in float64, from values that the dtype can hold."""
    values = [x.double().numpy() for x in start(SHAPES, dtype)]
    state: dict[str, Any] = {}
    states: list[dict[str, Any]] = [{} for _ in values]
    for step in range(steps):
        grads = [sign * g.to(dtype).double().numpy() for g in gradients(step, SHAPES)]
        if isinstance(subject.oracle, WholeModel):
            values = subject.oracle.step(values, grads, state, **case)
        elif subject.oracle is not None:
            each = zip(values, grads, states, strict=True)
            values = [subject.oracle(p, g, s, **case) if g.size else p for p, g, s in each]
    return values


def candidates(declared: Hyper, value: float | None) -> Iterator[float]:
    """Other legal values of a number, likely to make a difference and to keep a run finite."""
    found = [0.5, 3.0, 0.1] if value is None else [value * 0.5, value * 0.9, 0.25, 0.5, 3.0, 0.1]
    for number in dict.fromkeys(found):
        if number != value and declared.allows(number):
            yield number


def default_cases(rule: Rule) -> tuple[dict[str, Any], ...]:
    """Configurations for a rule that nobody has chosen any for: defaults, others, and every option."""
    decay: dict[str, Any] = (
        {"weight_decay": 0.1} if any(h.name == "weight_decay" for h in rule.hypers) else {}
    )
    changed = {h.name: _changed(h) for h in rule.hypers} | decay
    cases = [{}, changed]
    for option in rule.options:
        cases += [decay | {option.name: c} for c in option.choices if c != option.default]
    return tuple(case for case in cases if legal(rule, case))


def _changed(declared: Hyper) -> Any:
    if isinstance(declared.default, tuple):
        return tuple(next(candidates(declared, value), value) for value in declared.default)
    return next(candidates(declared, declared.default), declared.default)


def legal(rule: Rule, case: Case) -> bool:
    """Whether the optimizer would accept these values together."""
    try:
        hypers.check(rule, {**defaults(rule), **case})
    except KudariError:
        return False
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remark that plain torch operations take a step; a later step may still make it."""
    said = set(bound_group._said)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bound_group.EagerFallbackWarning)
            yield
    finally:
        bound_group._said.intersection_update(said)
