"""A curve: one formula of progress, declared in one file the way an optimizer's rule is.

A curve is a function of ``t``, the local step from 0, and ``T``, the number of steps it lasts. Its other
parameters are numbers with a range (:func:`number`), lengths (:func:`length`) and choices (:func:`choice`).

Example:
    >>> @curve(source="folklore")
    ... def ramp(t, T, start=number(0.0, at_least=0), *, length=length(None)):
    ...     return start + (1 - start) * t / T
    >>> ramp(start=0.5).factor(5, total_steps=10)
    0.75
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Concatenate, ParamSpec, TypeAlias

from kudari.compile.expression import Expr, Operand, hyper, lift, walk
from kudari.compile.notation import Hyper, Option, minimum
from kudari.errors import ArgumentError, HyperError, did_you_mean
from kudari.schedules.length import Length, LengthLike, RunSize
from kudari.schedules.schedule import Schedule, Window

P = ParamSpec("P")
Number: TypeAlias = Operand
Value: TypeAlias = "float | str | bool | Length | tuple[Length, ...] | None"
Requirements: TypeAlias = "tuple[tuple[Callable[[dict[str, Any]], bool], str], ...]"


@dataclass(frozen=True)
class Span:
    """A declared length: its default (None: it takes what time it is given), or several lengths."""

    default: Length | tuple[Length, ...] | None


def number(
    default: float,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    symbol: str = "",
) -> Any:
    """Declare a number with its range; bounds are closed (``at_least``) or open (``above``)."""
    return Hyper(default, at_least, at_most, above, below, symbol)


def length(default: LengthLike | None) -> Any:
    """Declare a length; percentages are of the run for ``length``, and of the curve for any other name."""
    return Span(None if default is None else Length.read(default))


def lengths(*default: LengthLike) -> Any:
    """Declare several lengths, such as the milestones of a multi-step schedule."""
    return Span(tuple(map(Length.read, default)))


def choice(default: str | bool, *choices: str | bool) -> Any:
    """Declare a choice that changes the formula; the body asks it with ``if``."""
    return Option(default, choices or (False, True))


def steps(value: LengthLike | Expr) -> Expr:
    """Inside a curve's formula: a length as a number of steps."""
    return value  # type: ignore[return-value]  # lengths are numbers by the time the formula is traced


def check_within(curve_name: str, what: str, used: object, total: object) -> None:
    """Inside a curve's formula: refuse inner lengths that are longer than the curve.

    Args:
        curve_name: for the message.
        what: the inner lengths as an expression, such as ``2*up``.
        used, total: their sum and the curve's length in steps; expressions are not checked.
    """
    if isinstance(used, (int, float)) and isinstance(total, (int, float)) and used > total:
        raise ArgumentError(
            f"{curve_name}: {what} = {used:g} steps, but there are {total:g} ({used - total:g} too many).",
            fix="Shorten it, or give it as a percentage of the curve.",
        )


def between(low: Number, high: Number, share: Expr) -> Expr:
    """``low`` where the share is 0 and ``high`` where it is 1; printed without zeros and ones."""
    if isinstance(low, (int, float)) and low == 0:
        return high * share
    return low + (high - low) * share


@dataclass(frozen=True)
class Curve:
    """What a curve's file declares; made by :func:`curve`.

    Attributes:
        name: as it is called in Python and in texts.
        function: the formula.
        source: authors, year, title, equation.
        differs: where we differ from the source or from torch, one sentence each.
        summary: first sentence of the docstring.
        declared: parameters in the order of the signature.
        requires: ``(condition, message)`` pairs over all parameters.
    """

    name: str
    function: Callable[..., Expr] = field(repr=False)
    source: str
    differs: tuple[str, ...]
    summary: str
    declared: tuple[tuple[str, Hyper | Option | Span], ...]
    requires: Requirements = field(default=(), repr=False)

    def make(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Piece:
        """Check the parameters and freeze them."""
        known = dict(self.declared)
        for name in kwargs:
            if name not in known:
                raise ArgumentError(
                    f"{self.name} has no parameter {name!r}.{did_you_mean(name, known)}",
                    fix=f"It takes: {', '.join(known)}.",
                )
        if len(args) > len(known):
            raise ArgumentError(f"{self.name} takes {len(known)} parameters, not {len(args)}.")
        given = dict(zip(known, args, strict=False))
        twice = sorted(given.keys() & kwargs.keys())
        if twice:
            raise ArgumentError(f"{self.name}: {twice[0]} is given twice.")
        given |= kwargs
        values = tuple(
            (name, self._check(name, spec, given[name]) if name in given else default_of(spec))
            for name, spec in self.declared
        )
        for condition, message in self.requires:
            if not condition(dict(values)):
                raise HyperError(f"{Piece(self, values)}: {message}")
        return Piece(self, values)

    def formula(self) -> Expr:
        """The formula with symbols for numbers and lengths, for people to read; choices at their default."""
        values: dict[str, object] = {}
        for name, spec in self.declared:
            default = default_of(spec)
            if isinstance(spec, Option) or (default is None and name != "length"):
                values[name] = default
            elif isinstance(default, tuple):
                values[name] = tuple(hyper(f"{name}_{i + 1}") for i in range(len(default)))
            else:
                values[name] = hyper("T" if name == "length" else name)
        return lift(self.function(hyper("t"), hyper("T"), **values))

    def symbols(self) -> dict[str, str]:
        """LaTeX of the numbers that have a letter of their own."""
        return {n: spec.symbol for n, spec in self.declared if isinstance(spec, Hyper) and spec.symbol}

    def _check(self, name: str, spec: Hyper | Option | Span, value: object) -> Value:
        try:
            if isinstance(spec, Hyper):
                return _check_number(spec, name, value)
            if isinstance(spec, Option):
                return _check_choice(spec, name, value)
            return _check_length(spec, name, value)
        except (HyperError, ArgumentError) as error:
            raise type(error)(f"{self.name}: {error.what}", error.why, error.fix) from None

    def __reduce__(self) -> tuple[Callable[..., Curve], tuple[str, str]]:
        return _find_curve, (self.function.__module__, self.function.__qualname__)


def _find_curve(module: str, name: str) -> Curve:
    found: Curve = getattr(importlib.import_module(module), name).curve
    return found


def default_of(spec: Hyper | Option | Span) -> Value:
    """The default of a declared parameter."""
    return spec.default  # type: ignore[return-value]  # hypers of curves are single numbers


def _check_number(spec: Hyper, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise HyperError(f"{name}={value!r} is not a number.", fix=f"Allowed: {spec.range_text(name)}.")
    if not spec.allows(value) or value in (float("inf"), float("-inf")):
        raise HyperError(
            f"{name}={value!r} is outside its range.",
            fix=f"Allowed: {spec.range_text(name)} (default {spec.default:g}).",
        )
    return float(value)


def _check_choice(spec: Option, name: str, value: object) -> str | bool | None:
    for allowed in spec.choices:
        if value == allowed and isinstance(value, bool) == isinstance(allowed, bool):
            return allowed
    words = [str(c) for c in spec.choices]
    raise HyperError(f"{name}={value!r} is not one of {', '.join(words)}.{did_you_mean(str(value), words)}")


def _check_length(spec: Span, name: str, value: object) -> Length | tuple[Length, ...] | None:
    if isinstance(spec.default, tuple):
        if not isinstance(value, (tuple, list)) or not value:
            raise ArgumentError(f"{name}={value!r} is not a list of lengths.", fix="Write (30, 60, 80).")
        return tuple(Length.read(item) for item in value)
    if value is None and spec.default is None:
        return None
    found = Length.read(value)  # type: ignore[arg-type]  # read refuses what is not a length
    if found.amount == 0 and name != "length":
        raise ArgumentError(f"{name}={value!r} must be above 0.", why="The curve would divide by it.")
    return found


@dataclass(frozen=True, repr=False)
class Piece(Schedule):
    """A curve with its parameters: the leaf of every schedule."""

    curve: Curve
    values: tuple[tuple[str, Value], ...]

    def steps(self, run: RunSize) -> Fraction | None:
        """The parameter ``length`` in steps; None if it is not given."""
        own = dict(self.values).get("length")
        return run.steps(own, of=run.total_steps) if isinstance(own, Length) else None

    def expression(self, t: Expr, window: Window) -> Expr:
        """The formula with its numbers, and the last value held where time may go on."""
        own = self.steps(window.run)
        total = window.steps if own is None else int(own + Fraction(1, 2))
        if total is not None and window.steps is not None:
            total = min(total, window.steps)
        if total is not None and (window.hold or total < (window.steps or 0)):
            t = minimum(t, total)
        unknown = hyper("T")
        traced = self.trace(t, unknown if total is None else max(total, 1), window.run, total)
        if total is None and any(node is unknown for node in walk([traced])):
            raise ArgumentError(
                f"{self} lasts as long as the run, whose length is not known.",
                fix="Pass total_steps=, or give the curve a length=.",
            )
        return traced

    def trace(self, t: Expr, total: Expr | int, run: RunSize, total_steps: int | None) -> Expr:
        """The formula with every length in steps."""
        values: dict[str, object] = {}
        for name, value in self.values:
            if name == "length":
                values[name] = total
            elif isinstance(value, Length):
                values[name] = float(run.steps(value, of=total_steps))
            elif isinstance(value, tuple):
                values[name] = tuple(float(run.steps(item, of=total_steps)) for item in value)
            else:
                values[name] = value
        return lift(self.curve.function(t, total, **values))

    def __str__(self) -> str:
        shown = []
        for index, ((name, value), (_, spec)) in enumerate(
            zip(self.values, self.curve.declared, strict=True)
        ):
            # A leading length is what people write first: warmup('2%'), step(1000).
            if index == 0 and isinstance(spec, Span) and spec.default is not None:
                shown.append(_literal(value))
            elif value != default_of(spec):
                shown.append(f"{name}={_literal(value)}")
        return f"{self.curve.name}({', '.join(shown)})"


def _literal(value: Value) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(item.literal for item in value)},)"
    if isinstance(value, Length):
        return value.literal
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def curve(
    *, source: str, differs: tuple[str, ...] = (), requires: Requirements = ()
) -> Callable[[Callable[Concatenate[Expr, Expr, P], Expr]], Callable[P, Schedule]]:
    """Make a schedule's constructor of a formula.

    Args:
        source: authors, year, title, equation.
        differs: where the formula differs from the source or from torch.
        requires: ``(condition, message)`` pairs over the parameters together, checked when they are given.

    Returns:
        A function of the formula's parameters that returns a :class:`Schedule`.
    """

    def decorate(function: Callable[Concatenate[Expr, Expr, P], Expr]) -> Callable[P, Schedule]:
        declared = _read(function, source, differs, requires)

        @functools.wraps(function)
        def make(*args: P.args, **kwargs: P.kwargs) -> Schedule:
            return declared.make(args, kwargs)

        vars(make).update(curve=declared, __signature__=_signature(declared))
        return make

    return decorate


def _read(
    function: Callable[..., Expr], source: str, differs: tuple[str, ...], requires: Requirements
) -> Curve:
    parameters = list(inspect.signature(function).parameters.values())
    name = function.__name__
    if [p.name for p in parameters[:2]] != ["t", "T"]:
        raise ArgumentError(f"{name}: the first parameters of a curve are t and T.")
    for p in parameters[2:]:
        if not isinstance(p.default, (Hyper, Option, Span)):
            raise ArgumentError(
                f"{name}: the parameter {p.name!r} is not declared.",
                fix=f"Write {p.name}=number(1.0, at_least=0), length('2%') or choice('linear', ...).",
            )
    summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
    pairs = tuple((p.name, p.default) for p in parameters[2:])
    return Curve(name, function, source, differs, summary, pairs, requires)


def _signature(declared: Curve) -> inspect.Signature:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [inspect.Parameter(name, kind, default=default_of(spec)) for name, spec in declared.declared]
    )
