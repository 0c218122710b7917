"""What a rule declares about its arguments: hyper-parameters, options, kinds, states and running numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Hyper:
    """A hyper-parameter: a number that may change at every step.

    Attributes:
        default: default value; a tuple for one with several parts, such as ``betas``, of which None marks
            those that may be None.
        at_least, at_most: closed bounds. below, above: open bounds. None for no bound.
        symbol: LaTeX, empty for the common one.
        name: filled in from the rule's signature.
        keyword_only: not part of the positional order of the constructor.
        optional: None is allowed and means "off".
    """

    default: float | tuple[float | None, ...] | None
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    symbol: str = ""
    name: str = ""
    keyword_only: bool = False
    optional: bool = False

    def range_text(self, label: str) -> str:
        """The allowed range as people write it: ``0 <= betas[0] < 1``."""
        left = f"{self.at_least:g} <= " if self.at_least is not None else ""
        left = f"{self.above:g} < " if self.above is not None else left
        right = f" <= {self.at_most:g}" if self.at_most is not None else ""
        right = f" < {self.below:g}" if self.below is not None else right
        if left and not right:
            sign_ = ">=" if self.at_least is not None else ">"
            bound = self.at_least if self.at_least is not None else self.above
            return f"{label} {sign_} {bound:g}"
        return f"{left}{label}{right}"

    def allows(self, value: float) -> bool:
        """Whether one number lies in the range; NaN never does."""
        return not (
            math.isnan(value)
            or (self.at_least is not None and value < self.at_least)
            or (self.at_most is not None and value > self.at_most)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )


@dataclass(frozen=True)
class Option:
    """A choice that changes the formula, known when the rule is traced: a flag, or one of several names."""

    default: bool | str | None
    choices: tuple[bool | str | None, ...] = (False, True)
    name: str = ""
    keyword_only: bool = False

    def plain(self, value: Any) -> Any:
        """A value as the rule sees it: a torch dtype by its name, everything else as it is."""
        return str(value).removeprefix("torch.") if type(value).__name__ == "dtype" else value


@dataclass(frozen=True)
class Kind:
    """Something a rule has different formulas for, tensor by tensor; known when the rule is traced.

    Attributes:
        of: the kind of a tensor, from its shape and its group's values.
        about: the values it has, each with the tensors it is for, in words; the first one is described first.
        name: filled in from the rule's signature.
    """

    of: Callable[[Shape, Mapping[str, Any]], bool | str]
    about: tuple[tuple[bool | str, str], ...]
    name: str = ""


@dataclass(frozen=True)
class Measure:
    """A number that a tensor has by its shape, such as how many rows it has.

    Attributes:
        of: the number, from the tensor's shape.
        name: filled in from the rule's signature.
    """

    of: Callable[[Shape], float]
    name: str = ""


@dataclass(frozen=True)
class State:
    """A tensor kept from step to step, shaped like the parameter, or one number for each tensor.

    Attributes:
        key: name in ``optimizer.state`` and in checkpoints.
        when: name of the option, kind or hyper-parameter without which the state does not exist.
        unless: name of one with which it does not exist.
        non_negative: never below zero, so an unsigned 8-bit code may hold it.
        size: of the gradient's own unit, such as a maximum of sizes, and no second moment: the direction
            divides by it and not by its root, so its code must not reach as far down.
        init: ``"zeros"``, ``"copy"`` (of the parameter), the name of a hyper-parameter, or a number;
            of factors ``"zeros"`` or ``"identity"``.
        shape: ``"elements"``, like the parameter; ``"rows"`` or ``"columns"``, one number for each row or
            column of the last two dimensions, with size 1 in the other one; ``"factors"``, a list with a
            square matrix, or None, for each dimension.
        every: name of a hyper-parameter k: the state has every k-th element of the flattened parameter.
        scalar: one number for the whole tensor, kept as a 0-d float64 tensor.
        full_precision: kept in fp32 whatever ``state_dtype`` says: a sum, a copy of weights, a factor.
        changed_by: the formula beside the step that gives it new values; empty for the step itself.
        sizes: of factors, their sizes from the tensor's shape and its group's values; None for no factor.
        name: filled in from the rule's signature.
    """

    key: str
    when: str = ""
    non_negative: bool = False
    init: str | float = "zeros"
    scalar: bool = False
    changed_by: str = ""
    name: str = ""
    unless: str = ""
    shape: Literal["elements", "rows", "columns", "factors"] = "elements"
    every: str = ""
    sizes: Callable[[Shape, Mapping[str, Any]], tuple[int | None, ...]] | None = None
    full_precision: bool = False
    size: bool = False

    def exists(self, config: Mapping[str, Any]) -> bool:
        """Whether a tensor has this state under these options and kinds."""
        return (not self.when or bool(config[self.when])) and not (self.unless and config[self.unless])


@dataclass(frozen=True)
class Running:
    """A number kept in the parameter group from step to step; the rule gives it a new value each step.

    One that is computed from a sum over the model is the same in every group.

    Attributes:
        start: its first value, or the name of the hyper-parameter that is; a whole number stays one.
        name: filled in from the rule's signature; its key in the group and in checkpoints.
    """

    start: float | str
    name: str = ""


def hyper(
    default: float | tuple[float | None, ...] | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    symbol: str = "",
    keyword_only: bool = False,
    optional: bool = False,
) -> Any:
    """Declare a hyper-parameter as the default of a keyword-only argument; see :class:`Hyper`."""
    return Hyper(default, at_least, at_most, above, below, symbol, "", keyword_only, optional)


def option(default: bool | str | None, *choices: bool | str | None, keyword_only: bool = False) -> Any:
    """Declare an option as the default of a keyword-only argument; see :class:`Option`."""
    return Option(default, choices or (False, True), "", keyword_only)


def kind(of: Callable[[Shape, Mapping[str, Any]], bool | str], **about: str) -> Any:
    """Declare what tensors are told apart by, as the default of a keyword-only argument; see :class:`Kind`.

    Args:
        of: the kind of a tensor, from its shape and its group's values.
        about: for each value, which tensors it is for; ``yes`` and ``no`` stand for True and False.
    """
    values: dict[str, bool | str] = {"yes": True, "no": False}
    return Kind(of, tuple((values.get(name, name), text) for name, text in about.items()))


def state(
    key: str,
    *,
    when: str = "",
    unless: str = "",
    non_negative: bool = False,
    init: str | float = "zeros",
    scalar: bool = False,
    changed_by: str = "",
    shape: Literal["elements", "rows", "columns"] = "elements",
    every: str = "",
    full_precision: bool = False,
    size: bool = False,
) -> Any:
    """Declare a state as the default of a positional argument; see :class:`State`."""
    made = State(key, when, non_negative, init, scalar, changed_by, "", unless, shape, every)
    return replace(made, full_precision=full_precision, size=size)


def factors(
    key: str, sizes: Callable[[Shape, Mapping[str, Any]], tuple[int | None, ...]], *, init: str = "zeros"
) -> Any:
    """Declare a list of square matrices, one for each dimension that has one; see :class:`State`."""
    return State(key, init=init, shape="factors", sizes=sizes, full_precision=True)


def measure(of: Callable[[Shape], float]) -> Any:
    """Declare a number of each tensor as the default of a keyword-only argument; see :class:`Measure`."""
    return Measure(of)


def running(start: float | str) -> Any:
    """Declare a number of the group as the default of a keyword-only argument; see :class:`Running`."""
    return Running(start)
