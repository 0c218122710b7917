"""Schedules from text: names, calls, numbers, ``>>`` and ``*``, read from the syntax tree and never run."""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping

from kudari.errors import ArgumentError, KudariError, did_you_mean
from kudari.schedules.schedule import Schedule

Maker = Callable[..., Schedule]
LONGEST = 2000

# Names for compositions that people use every day.
PRESETS: dict[str, str] = {
    "warmup_constant": "warmup('2%') >> constant()",
    "warmup_linear": "warmup('2%') >> linear(1, 0)",
    "warmup_cosine": "warmup('2%') >> cosine(floor=0.1)",
    "warmup_inverse_sqrt": "warmup('2%') >> inverse_sqrt('2%')",
}


@functools.cache
def makers() -> dict[str, Maker]:
    """Every schedule's constructor by name, in alphabetical order."""
    from kudari.schedules import curves

    found: dict[str, Maker] = {}
    for name in sorted(info.name for info in pkgutil.iter_modules(curves.__path__)):
        found[name] = getattr(importlib.import_module(f"kudari.schedules.curves.{name}"), name)
    return found


@functools.cache
def combinators() -> dict[str, Maker]:
    """Functions of schedules that texts may call; they have no use without arguments."""
    from kudari.schedules.branch import cooldown_from, freeze

    return {"cooldown_from": cooldown_from, "freeze": freeze}


def names() -> tuple[str, ...]:
    """Every name that :func:`parse` knows, presets included."""
    return (*PRESETS, *makers())


def parse(text: str | Schedule, extra: Mapping[str, Maker] | None = None) -> Schedule:
    """Read a schedule.

    Args:
        text: a name (``"cosine"``, ``"warmup_cosine"``) or a composition of calls; a schedule is returned.
        extra: constructors of your own that the text may call, by name.

    Raises:
        ArgumentError: if the text is not a schedule; HyperError: if a parameter is outside its range.

    Example:
        >>> parse("warmup('2%') >> cosine(floor=0.1)") == parse("warmup_cosine")
        True
    """
    if isinstance(text, Schedule):
        return text
    if not isinstance(text, str):
        raise ArgumentError(f"{text!r} is not a schedule.", fix="Pass a text such as 'warmup_cosine'.")
    if len(text) > LONGEST:
        raise ArgumentError(f"A schedule of {len(text)} characters; the longest allowed is {LONGEST}.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        found = _Reader(text.strip(), extra or {}).read(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, KudariError):
            raise
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        unquoted = re.search(r"(?<!['\"\w.])[0-9.]+\s*%", text)
        quotes = f" {unquoted[0]!r} needs quotes." if unquoted else ""
        raise ArgumentError(
            f"{text!r} is not a schedule: {reason or 'it is empty'}.{quotes}",
            fix="Write a name, or calls joined by >> and *: warmup('2%') >> cosine(floor=0.1).",
        ) from None
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return makers()["constant"](found)
    if not isinstance(found, Schedule):
        raise ArgumentError(f"{text!r} is a {type(found).__name__}, not a schedule.")
    return found


class _Reader:
    """Walks a syntax tree and allows only what a schedule is made of."""

    def __init__(self, text: str, extra: Mapping[str, Maker]) -> None:
        self._text, self._extra = text, extra

    def read(self, node: ast.expr) -> object:
        """The value of a node."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return self._negative(node)
        if isinstance(node, (ast.Tuple, ast.List)):
            return tuple(self.read(item) for item in node.elts)
        if isinstance(node, ast.Name):
            return self._make(node.id, [], {})
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.RShift, ast.Mult)):
            return self._joined(node)
        part = ast.get_source_segment(self._text, node) or self._text
        raise ArgumentError(
            f"{part!r} is not allowed in a schedule.",
            fix="Use names, calls, numbers, texts, >> and *.",
        )

    def _negative(self, node: ast.UnaryOp) -> float:
        value = self.read(node.operand)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ArgumentError(f"- {value} is not a number.")
        return -value

    def _call(self, node: ast.Call) -> Schedule:
        if not isinstance(node.func, ast.Name):
            raise ArgumentError(f"{ast.unparse(node.func)!r} is not the name of a schedule.")
        kwargs: dict[str, object] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise ArgumentError("** is not allowed in a schedule.")
            kwargs[keyword.arg] = self.read(keyword.value)
        return self._make(node.func.id, [self.read(item) for item in node.args], kwargs)

    def _make(self, name: str, args: list[object], kwargs: dict[str, object]) -> Schedule:
        if name in PRESETS:
            if args or kwargs:
                raise ArgumentError(f"{name} takes no parameters; it stands for {PRESETS[name]}.")
            return parse(PRESETS[name])
        maker = self._extra.get(name) or makers().get(name) or combinators().get(name)
        if maker is None:
            known = (*names(), *combinators(), *self._extra)
            raise ArgumentError(
                f"There is no schedule {name!r}.{did_you_mean(name, known)}",
                fix=f"Known: {', '.join(known)}.",
            )
        try:
            return maker(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{name}: {error}.") from None

    def _joined(self, node: ast.BinOp) -> Schedule:
        a, b = self._side(node.left), self._side(node.right)
        return a >> b if isinstance(node.op, ast.RShift) else a * b

    def _side(self, node: ast.expr) -> Schedule:
        value = self.read(node)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return makers()["constant"](value)
        if not isinstance(value, Schedule):
            raise ArgumentError(f"{value!r} cannot be joined to a schedule in {self._text!r}.")
        return value
