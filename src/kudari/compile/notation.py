"""The notation in which rules and schedules are written: the paper's formula in ASCII.

A rule is a Python function. Positional arguments are tensors shaped like the parameter: ``p`` the parameter,
``g`` its gradient, then the states. Keyword-only arguments are hyper-parameters with default and range,
options (:func:`option`) and kinds of tensors (:func:`kind`), which are plain Python values and may be asked
with ``if``. It returns a :class:`Step`: the new value of every tensor it changes.

Example:
    >>> @rule(name="SignSGD", source="Bernstein et al. 2018, signSGD, algorithm 1")
    ... def sign_sgd(p, g, *, lr=hyper(1e-3, at_least=0)):
    ...     return Step(p=p - lr * sign(g))
    >>> sign_sgd.name, [h.name for h in sign_sgd.hypers]
    ('SignSGD', ['lr'])
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kudari.compile.declarations import (
    Hyper,
    Kind,
    Measure,
    Option,
    Running,
    Shape,
    State,
    factors,
    hyper,
    kind,
    measure,
    option,
    running,
    state,
)  # fmt: skip
from kudari.compile.expression import Expr, Operand, node
from kudari.compile.expression import hyper as number
from kudari.errors import RuleError

__all__ = [
    "Expr", "Hyper", "Kind", "Measure", "Option", "Rule", "Running", "Shape", "State", "Step", "agreeing",
    "atan2", "clip", "column_mean", "cos", "divides", "ema", "exp", "factors", "floor", "hyper", "kind",
    "log", "machine_epsilon", "maximum", "mean", "measure", "minimum", "model_sum", "norm", "option",
    "row_mean", "rule", "running", "sign", "sin", "sqrt", "state", "tensor_sum", "where",
]  # fmt: skip


Declared = Hyper | Option | Running | Kind | Measure


# --- functions of numbers


def sqrt(x: Operand) -> Expr:
    """Square root; of a negative number, NaN."""
    return node("sqrt", x)


def sign(x: Operand) -> Expr:
    """-1, 0 or 1; of NaN, NaN."""
    return node("sign", x)


def exp(x: Operand) -> Expr:
    """e to the power x."""
    return node("exp", x)


def log(x: Operand) -> Expr:
    """Natural logarithm."""
    return node("log", x)


def sin(x: Operand) -> Expr:
    """Sine of an angle in radians."""
    return node("sin", x)


def cos(x: Operand) -> Expr:
    """Cosine of an angle in radians."""
    return node("cos", x)


def floor(x: Operand) -> Expr:
    """Largest whole number not above x."""
    return node("floor", x)


def atan2(y: Operand, x: Operand) -> Expr:
    """Angle of the point (x, y) in radians; of (0, 0), 0."""
    return node("atan2", y, x)


def minimum(a: Operand, b: Operand) -> Expr:
    """The smaller one; NaN if either is NaN."""
    return node("min", a, b)


def maximum(a: Operand, b: Operand) -> Expr:
    """The larger one; NaN if either is NaN."""
    return node("max", a, b)


def clip(x: Operand, low: Operand, high: Operand) -> Expr:
    """x held between low and high."""
    return minimum(maximum(x, low), high)


def where(condition: Expr, a: Operand, b: Operand) -> Expr:
    """a where the condition holds, else b; the other one is not looked at."""
    return node("where", condition, a, b)


def ema(average: Expr, x: Operand, b: Operand) -> Expr:
    """Exponential moving average: ``b*average + (1-b)*x``."""
    return b * average + (1 - b) * x


def divides(n: Operand, t: Operand) -> Expr:
    """Whether the whole number n divides the whole number t."""
    return node("le", t - floor(node("div", t, n)) * n, 0)


# --- sums over elements


def tensor_sum(x: Expr) -> Expr:
    """Sum of all elements of the tensor: one number a tensor."""
    return node("sum", x)


def mean(x: Expr) -> Expr:
    """Mean of all elements of the tensor."""
    return tensor_sum(x) / number("numel")


def norm(x: Expr) -> Expr:
    """2-norm of the whole tensor: the root of the sum of squares."""
    return sqrt(tensor_sum(x * x))


def row_mean(x: Expr) -> Expr:
    """Mean of each row, the last dimension: of a matrix, one number for each of its rows."""
    return node("sum_columns", x) / number("columns")


def column_mean(x: Expr) -> Expr:
    """Mean of each column, the last dimension but one; of one number for each row, their mean."""
    return node("sum_rows", x) / number("rows")


def model_sum(x: Expr) -> Expr:
    """Sum over all elements of all tensors of the optimizer: one number a step."""
    return node("sum_model", x)


def machine_epsilon() -> Expr:
    """Distance from 1 to the next number in the parameter's own dtype."""
    return number("machine_epsilon")


def agreeing(u: Expr, g: Expr, sign_of: Expr | None = None) -> Expr:
    """The part of a direction that agrees with the gradient's sign, scaled up for what is left out.

    Liang, Chen, Liu, Liu 2024, Cautious Optimizers; the scale is that of the authors' code, over the tensor.

    Args:
        u: the direction.
        g: the gradient.
        sign_of: something with u's sign that takes less memory to read, where there is such a thing.
    """
    kept = where(sign(u if sign_of is None else sign_of) * g > 0, 1.0, 0.0)
    return u * kept / maximum(mean(kept), 1e-3)


class Step:
    """What a rule returns: the new value of every tensor that it changes, by name.

    It also notes the local variables of the rule that makes it: they name the steps of the formula.
    """

    def __init__(self, **new: Expr | None) -> None:
        self.new = {name: value for name, value in new.items() if value is not None}
        self.names = dict(sys._getframe(1).f_locals)


@dataclass(frozen=True)
class Rule:
    """An optimizer as its formula; made by :func:`rule`.

    Attributes:
        name: class name of the optimizer.
        function: the formula.
        source: authors, year, title, algorithm number.
        states, hypers, options, running, kinds, measures: declarations in the order of the signature.
        counts: whether ``step``, the number of gradients a tensor has received, is kept; or the name of a
            kind or option, for tensors that it is true of.
        order: names of hyper-parameters and options in the order of the signature.
        differs: where we differ from the paper or from torch, one sentence each.
        typical: values that people use.
        requires: ``(condition, message)`` pairs over hyper-parameters and options, checked when given; a
            message has their values in braces, as ``"eps={eps!r} is not allowed; expected ..."``.
        sparse: whether sparse gradients are taken, without weight decay.
        frozen: groups for which this holds take no part in a step.
        shared: hyper-parameters that must be equal in all groups that take part.
        fixed: (name, value) pairs that every group holds beside the constructor's values, for others to read.
        positional: torch's common keywords that its class also takes by position, after the rule's own.
        formulas: (name, function) of formulas beside the step, over the same states and numbers; their
            arguments are any of the step's, by name. One without ``g`` is for tensors that have a state.
        clears: whether the step may give ``g`` a new value; only :mod:`kudari.compile.extend` asks for it.
    """

    name: str
    function: Callable[..., Step]
    source: str
    states: tuple[State, ...]
    hypers: tuple[Hyper, ...]
    options: tuple[Option, ...]
    running: tuple[Running, ...]
    counts: bool | str
    order: tuple[str, ...]
    summary: str = ""
    differs: tuple[str, ...] = ()
    typical: str = ""
    requires: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = field(default=(), repr=False)
    sparse: bool = False
    positional: tuple[str, ...] = ()
    formulas: tuple[tuple[str, Callable[..., Step]], ...] = ()
    clears: bool = False
    kinds: tuple[Kind, ...] = ()
    measures: tuple[Measure, ...] = ()
    frozen: Callable[[Mapping[str, Any]], bool] | None = field(default=None, repr=False)
    shared: tuple[str, ...] = ()
    fixed: tuple[tuple[str, Any], ...] = ()

    @property
    def declared(self) -> tuple[Hyper | Option, ...]:
        """Hyper-parameters and options, in the order of the signature."""
        table: dict[str, Hyper | Option] = {h.name: h for h in self.hypers}
        table |= {o.name: o for o in self.options}
        return tuple(table[name] for name in self.order)

    def active_states(self, config: Mapping[str, Any]) -> tuple[State, ...]:
        """The states that exist under a group's values and a tensor's kinds."""
        return tuple(s for s in self.states if s.exists(config))

    def kinds_of(self, shape: Shape, group: Mapping[str, Any]) -> dict[str, bool | str]:
        """The kinds of a tensor of this shape, by name."""
        return {k.name: k.of(shape, group) for k in self.kinds}

    def keeps_count(self, config: Mapping[str, Any]) -> bool:
        """Whether ``step`` is kept under a group's values and a tensor's kinds."""
        return bool(config[self.counts]) if isinstance(self.counts, str) else self.counts


def rule(
    *,
    name: str,
    source: str,
    counts: bool | str | None = None,
    differs: tuple[str, ...] = (),
    typical: str = "",
    requires: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (),
    sparse: bool = False,
    positional: tuple[str, ...] = (),
    formulas: Mapping[str, Callable[..., Step]] | None = None,
    frozen: Callable[[Mapping[str, Any]], bool] | None = None,
    shared: tuple[str, ...] = (),
    fixed: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Step]], Rule]:
    """Make a :class:`Rule` of a function.

    Args:
        name: class name of the optimizer, such as ``AdamW``.
        source: authors, year, title, algorithm number.
        counts: see :class:`Rule`; by default, whether the function takes ``t``.
        differs, typical, requires, sparse, positional, formulas, frozen, shared, fixed: see :class:`Rule`.

    Raises:
        RuleError: if the signature is not one of a rule.
    """

    def make(function: Callable[..., Step]) -> Rule:
        states, numbers = _read_signature(name, function)
        takes_t = "t" in inspect.signature(function).parameters
        if counts is True and not takes_t:
            raise RuleError(
                f"{name} is to count the gradients of each tensor, and does not take t.",
                fix="Add t to the keyword-only arguments; the step counts while it computes t.",
            )
        return Rule(
            name=name,
            function=function,
            source=source,
            states=states,
            hypers=tuple(d for d in numbers if isinstance(d, Hyper)),
            options=tuple(d for d in numbers if isinstance(d, Option)),
            kinds=tuple(d for d in numbers if isinstance(d, Kind)),
            measures=tuple(d for d in numbers if isinstance(d, Measure)),
            running=tuple(d for d in numbers if isinstance(d, Running)),
            counts=takes_t if counts is None else counts,
            order=tuple(d.name for d in numbers if isinstance(d, (Hyper, Option))),
            summary=(inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " "),
            differs=differs,
            typical=typical,
            requires=requires,
            sparse=sparse,
            positional=positional,
            formulas=tuple((formulas or {}).items()),
            frozen=frozen,
            shared=shared,
            fixed=tuple((fixed or {}).items()),
        )

    return make


def _read_signature(
    name: str, function: Callable[..., Step]
) -> tuple[tuple[State, ...], tuple[Declared, ...]]:
    parameters = list(inspect.signature(function).parameters.values())
    positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    if [p.name for p in positional[:2]] != ["p", "g"]:
        raise RuleError(
            f"{name}: the first arguments of a rule are p (the parameter) and g (its gradient), "
            f"not {[p.name for p in positional[:2]]}.",
            fix="Write def my_rule(p, g, m=state('momentum'), *, lr=hyper(1e-3, at_least=0)).",
        )
    states: list[State] = []
    for p in positional[2:]:
        if not isinstance(p.default, State):
            raise RuleError(
                f"{name}: the tensor argument {p.name!r} is not declared.",
                fix=f"Give it a name for checkpoints: {p.name}=state('{p.name}').",
            )
        states.append(replace(p.default, name=p.name))
    numbers: list[Declared] = []
    for p in parameters[len(positional) :]:
        if isinstance(p.default, (Hyper, Option, Running, Kind, Measure)):
            numbers.append(replace(p.default, name=p.name))
        elif p.name != "t":
            raise RuleError(
                f"{name}: the keyword argument {p.name!r} is not declared.",
                fix=f"Write {p.name}=hyper(default, at_least=0) or {p.name}=option(False).",
            )
    return tuple(states), tuple(numbers)
