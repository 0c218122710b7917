"""Schedules from text: names, calls, numbers, ``>>`` and ``*``, read from the syntax tree and never run."""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
from collections.abc import Callable

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


def parse(text: str | Schedule) -> Schedule:
    """Read a schedule.

    Args:
        text: a name (``"cosine"``, ``"warmup_cosine"``) or a composition of calls; a schedule is returned.

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
        found = _read(tree.body, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, KudariError):
            raise
        raise ArgumentError(
            f"{text!r} is not a schedule: {error}.",
            fix="Write a name, or calls joined by >> and *: warmup('2%') >> cosine(floor=0.1).",
        ) from None
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return makers()["constant"](found)
    if not isinstance(found, Schedule):
        raise ArgumentError(f"{text!r} is a {type(found).__name__}, not a schedule.")
    return found


def _read(node: ast.expr, text: str) -> object:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str, bool, type(None))):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _negative(node, text)
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_read(item, text) for item in node.elts)
    if isinstance(node, ast.Name):
        return _named(node.id)
    if isinstance(node, ast.Call):
        return _call(node, text)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.RShift, ast.Mult)):
        return _joined(node, text)
    part = ast.get_source_segment(text.strip(), node) or text
    raise ArgumentError(
        f"{part!r} is not allowed in a schedule.",
        fix="Use names, calls, numbers, texts, >> and *.",
    )


def _negative(node: ast.UnaryOp, text: str) -> float:
    value = _read(node.operand, text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentError(f"- {value} is not a number.")
    return -value


def _named(name: str) -> Schedule:
    if name in PRESETS:
        return parse(PRESETS[name])
    try:
        return _maker(name)()
    except TypeError as error:
        raise ArgumentError(f"{name}: {error}.") from None


def _maker(name: str) -> Maker:
    found = makers().get(name) or combinators().get(name)
    if found is None:
        raise ArgumentError(
            f"There is no schedule {name!r}.{did_you_mean(name, names())}",
            fix=f"Known: {', '.join(names())}.",
        )
    return found


def _call(node: ast.Call, text: str) -> Schedule:
    if not isinstance(node.func, ast.Name):
        raise ArgumentError(f"{ast.unparse(node.func)!r} is not the name of a schedule.")
    name = node.func.id
    if name in PRESETS:
        if node.args or node.keywords:
            raise ArgumentError(f"{name} takes no parameters; it stands for {PRESETS[name]}.")
        return _named(name)
    args = [_read(item, text) for item in node.args]
    kwargs: dict[str, object] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ArgumentError("** is not allowed in a schedule.")
        kwargs[keyword.arg] = _read(keyword.value, text)
    try:
        return _maker(name)(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"{name}: {error}.") from None


def _joined(node: ast.BinOp, text: str) -> Schedule:
    left, right = _read(node.left, text), _read(node.right, text)
    sides = [makers()["constant"](x) if isinstance(x, (int, float)) else x for x in (left, right)]
    for side in sides:
        if not isinstance(side, Schedule):
            raise ArgumentError(f"{side!r} cannot be joined to a schedule in {text!r}.")
    a, b = sides
    assert isinstance(a, Schedule)
    assert isinstance(b, Schedule)
    return a >> b if isinstance(node.op, ast.RShift) else a * b
