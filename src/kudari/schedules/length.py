"""Lengths as written (``"2%"``, ``500``, ``"3 epochs"``, ``"1e9 tokens"``) and the size of a run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from numbers import Real
from typing import TypeAlias

from kudari.errors import ArgumentError, did_you_mean

UNITS = ("steps", "epochs", "percent", "samples", "tokens")
_WORDS = {unit.rstrip("s"): unit for unit in UNITS} | {unit: unit for unit in UNITS} | {"%": "percent"}
_SCALE = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_TEXT = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*([KMBT]?)\s*(%|[A-Za-z]*)\s*")
_FORMS = "Write 500 (steps), '3 epochs', '2%', '50000 samples' or '1e9 tokens'."


@dataclass(frozen=True)
class Length:
    """A length of time in a run.

    Attributes:
        amount: how many, not negative; exact, so that 50% + 30% + 20% is the whole run.
        unit: one of :data:`UNITS`; a percentage is of the run.

    Example:
        >>> Length.read("2%"), Length.read("1.5 epochs").unit
        (Length('2%'), 'epochs')
    """

    amount: Fraction
    unit: str

    @staticmethod
    def read(value: LengthLike) -> Length:
        """Make a length of a whole number of steps or a text.

        Raises:
            ArgumentError: if the text is not a length, or the number is not whole or negative.
        """
        if isinstance(value, Length):
            return value
        if isinstance(value, str):
            return _read_text(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise ArgumentError(f"{value!r} is not a length.", fix=_FORMS)
        if value < 0 or value in (float("inf"), float("-inf")) or value != int(value):
            raise ArgumentError(
                f"The length {value!r} is not a whole number of steps.",
                why="A fraction could mean steps or a part of the run.",
                fix=f"Write '{100 * value:g}%' for a part of the run." if 0 < value < 1 else _FORMS,
            )
        return Length(Fraction(int(value)), "steps")

    @property
    def literal(self) -> str:
        """As it is written in a schedule: ``500`` or ``'2%'``."""
        return str(self) if self.unit == "steps" else f"'{self}'"

    def __str__(self) -> str:
        number = str(self.amount) if self.amount.denominator == 1 else repr(float(self.amount))
        return number + {"steps": "", "percent": "%"}.get(self.unit, f" {self.unit}")

    def __repr__(self) -> str:
        return f"Length({self.literal})"


LengthLike: TypeAlias = Length | int | float | str


def _read_text(text: str) -> Length:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ArgumentError(f"{text!r} is not a length.", fix=_FORMS)
    number, scale, word = match.groups()
    unit = _WORDS.get(word.lower(), "steps" if not word else "")
    if not unit:
        raise ArgumentError(
            f"{text!r}: {word!r} is not a unit.{did_you_mean(word.lower(), _WORDS)}",
            fix=_FORMS,
        )
    amount = Fraction(number.replace("_", "")) * _SCALE[scale]
    if unit == "steps" and amount.denominator != 1:
        raise ArgumentError(f"{text!r} is not a whole number of steps.", fix=_FORMS)
    return Length(amount, unit)


@dataclass(frozen=True)
class RunSize:
    """How long a run is, in every unit that is known.

    Attributes:
        total_steps: optimizer steps of the whole run; None if nobody knows yet.
        steps_per_epoch: optimizer steps in one pass over the training data.
        batch_size: samples in one optimizer step, over all micro-batches and processes.
        tokens_per_step: tokens in one optimizer step.
    """

    total_steps: int | None = None
    steps_per_epoch: Fraction | None = None
    batch_size: int | None = None
    tokens_per_step: int | None = None

    @staticmethod
    def of(
        total_steps: int | None = None,
        *,
        epochs: float | None = None,
        steps_per_epoch: int | None = None,
        batch_size: int | None = None,
        tokens_per_step: int | None = None,
    ) -> RunSize:
        """Check what is known and work out the rest.

        Raises:
            ArgumentError: if a number is not positive, or the numbers contradict each other.

        Example:
            >>> RunSize.of(epochs=10, steps_per_epoch=90).total_steps
            900
        """
        given = {
            "total_steps": total_steps,
            "steps_per_epoch": steps_per_epoch,
            "batch_size": batch_size,
            "tokens_per_step": tokens_per_step,
        }
        for name, value in given.items():
            if value is not None and not (is_number(value) and value >= 1 and value == int(value)):
                raise ArgumentError(f"{name}={value!r} is not a whole number of 1 or more.")
        if epochs is not None and not (is_number(epochs) and epochs > 0):
            raise ArgumentError(f"epochs={epochs!r} is not a number above 0.")
        per_epoch = None if steps_per_epoch is None else Fraction(steps_per_epoch)
        if epochs is not None and per_epoch is not None:
            product = round(Fraction(str(epochs)) * per_epoch)
            if total_steps is not None and total_steps != product:
                raise ArgumentError(
                    f"epochs={epochs} x steps_per_epoch={steps_per_epoch} = {product} steps, "
                    f"but total_steps={total_steps}.",
                    fix="Pass two of the three.",
                )
            if product < 1:
                raise ArgumentError(
                    f"epochs={epochs} x steps_per_epoch={steps_per_epoch} is less than a step.",
                    fix="Train for longer, or pass total_steps=.",
                )
            total_steps = product
        elif epochs is not None and total_steps is not None:
            per_epoch = Fraction(total_steps) / Fraction(str(epochs))
        return RunSize(
            None if total_steps is None else int(total_steps), per_epoch, batch_size, tokens_per_step
        )

    def steps(self, length: Length, *, of: int | None) -> Fraction:
        """The length in optimizer steps, exact.

        Args:
            length: in any unit.
            of: what a percentage is a part of, in steps; None if not known.

        Raises:
            ArgumentError: if the run does not say how to convert the unit.
        """
        if length.unit == "percent":
            return length.amount / 100 * _needed(of, length, "total_steps")
        if length.unit == "epochs":
            return length.amount * _needed(self.steps_per_epoch, length, "steps_per_epoch")
        if length.unit == "samples":
            return length.amount / _needed(self.batch_size, length, "batch_size")
        if length.unit == "tokens":
            return length.amount / _needed(self.tokens_per_step, length, "tokens_per_step")
        return length.amount


def is_number(value: object) -> bool:
    """Whether it is a finite real number; True and False are none."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _needed(value: int | Fraction | None, length: Length, name: str) -> Fraction:
    if value is None:
        raise ArgumentError(
            f"The length {str(length)!r} cannot be turned into steps: {name} is not known.",
            fix=f"Pass {name}=, or give the length in steps.",
        )
    return Fraction(value)
