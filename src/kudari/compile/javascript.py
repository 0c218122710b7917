"""Prints expressions as JavaScript, for the page where people play with a rule or a schedule."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from kudari.compile.expression import SUMS, Expr, walk
from kudari.errors import UnsupportedError

_INFIX = {"add": ("+", 3), "sub": ("-", 3), "mul": ("*", 4), "div": ("/", 4)}
_COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_CALLS = {
    "abs": "Math.abs",
    "sqrt": "Math.sqrt",
    "sign": "Math.sign",
    "exp": "Math.exp",
    "log": "Math.log",
    "sin": "Math.sin",
    "cos": "Math.cos",
    "floor": "Math.floor",
    "pow": "Math.pow",
    "min": "Math.min",
    "max": "Math.max",
    "atan2": "Math.atan2",
}
_CHOICE, _COMPARISON, _UNARY, _ATOM = 1, 2, 5, 6
_RESERVED = {
    "await", "break", "case", "catch", "class", "const", "continue", "debugger", "default", "delete", "do",
    "else", "enum", "eval", "export", "extends", "false", "finally", "for", "function", "if", "import", "in",
    "instanceof", "interface", "let", "new", "null", "package", "private", "protected", "public", "return",
    "static", "super", "switch", "this", "throw", "true", "try", "typeof", "var", "void", "while", "with",
    "yield",
}  # fmt: skip


def javascript(expr: Expr, names: Mapping[str, str] | None = None) -> str:
    """An expression as one JavaScript expression of float64 numbers.

    Args:
        expr: without sums over elements; a tensor stands for one of its elements.
        names: what to call the inputs; an input that is missing keeps its name.

    Raises:
        UnsupportedError: if the expression sums over elements, which needs the whole tensor.

    Example:
        >>> from kudari.compile.expression import hyper
        >>> from kudari.compile.notation import minimum
        >>> t = hyper("t")
        >>> javascript(1 - minimum(t, 10) / 10)
        '1 - Math.min(t, 10) / 10'
    """
    return _text(expr, names or {}, {}, 0)


def javascript_function(
    name: str, arguments: Sequence[str], outputs: Mapping[str, Expr], names: Mapping[str, str] | None = None
) -> str:
    """A JavaScript function that computes several expressions and returns them as an object.

    Sub-expressions that are used more than once become constants of the function.

    Args:
        name: of the function.
        arguments: its parameters, JavaScript names.
        outputs: keys of the returned object and their expressions.
        names: what to call the inputs of the expressions, as for :func:`javascript`.

    Example:
        >>> from kudari.compile.expression import hyper
        >>> x = hyper("x") + 1
        >>> print(javascript_function("f", ["x"], {"y": x * x, "z": x}))
        function f(x) {
          const c0 = x + 1;
          return { y: c0 * c0, z: c0 };
        }
    """
    uses: dict[Expr, int] = {}
    for item in walk(outputs.values()):
        for argument in item.args:
            uses[argument] = uses.get(argument, 0) + 1
    for output in outputs.values():
        uses[output] = uses.get(output, 0) + 1
    taken = {*arguments, *(names or {}).values()}
    known: dict[Expr, str] = {}
    lines = [f"function {name}({', '.join(arguments)}) {{"]
    for item in walk(outputs.values()):
        if item.args and uses[item] > 1:
            variable = next(f"c{i}" for i in range(len(known), 10**9) if f"c{i}" not in taken)
            lines.append(f"  const {variable} = {_text(item, names or {}, known, 0)};")
            known[item] = variable
            taken.add(variable)
    parts = [f"{_key(key)}: {_text(value, names or {}, known, _CHOICE)}" for key, value in outputs.items()]
    return "\n".join([*lines, f"  return {{ {', '.join(parts)} }};", "}"])


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else json.dumps(key)


def _text(expr: Expr, names: Mapping[str, str], known: Mapping[Expr, str], outer: int) -> str:
    """``outer`` is how tightly the text's place binds."""
    if expr in known:
        return known[expr]
    text, own = _operation(expr, names, known)
    return f"({text})" if own < outer else text


def _operation(expr: Expr, names: Mapping[str, str], known: Mapping[Expr, str]) -> tuple[str, int]:
    def at(argument: Expr, level: int) -> str:
        return _text(argument, names, known, level)

    op, args = expr.op, expr.args
    if op in ("slot", "hyper"):
        name = names.get(expr.name, expr.name)
        return (f"{name}_" if name in _RESERVED else name), _ATOM
    if op == "const":
        return _number(expr.value)
    if op in _INFIX:
        sign, level = _INFIX[op]
        return f"{at(args[0], level)} {sign} {at(args[1], level + 1)}", level
    if op in _CALLS:
        return f"{_CALLS[op]}({', '.join(at(a, _CHOICE) for a in args)})", _ATOM
    if op in _COMPARE:
        # In rules a comparison may be used as a number, 0 or 1.
        return f"{at(args[0], 3)} {_COMPARE[op]} {at(args[1], 3)} ? 1 : 0", _CHOICE
    if op == "neg":
        return f"-{at(args[0], _ATOM)}", _UNARY
    if op == "fma":
        return f"{at(args[0], 4)} * {at(args[1], 5)} + {at(args[2], 3)}", 3
    if op == "where":
        return (
            f"{_condition(args[0], names, known)} ? {at(args[1], _CHOICE)} : {at(args[2], _CHOICE)}",
            _CHOICE,
        )
    if op in SUMS:
        raise UnsupportedError(
            f"The expression sums over elements ({op}), which one JavaScript number cannot.",
            fix="Print the sum's argument, and pass the sum as an input.",
        )
    raise UnsupportedError(f"The operation {op!r} has no JavaScript.")


def _condition(expr: Expr, names: Mapping[str, str], known: Mapping[Expr, str]) -> str:
    if expr.op in _COMPARE and expr not in known:
        left, right = (_text(a, names, known, 3) for a in expr.args)
        return f"{left} {_COMPARE[expr.op]} {right}"
    return _text(expr, names, known, _COMPARISON)


def _number(value: float) -> tuple[str, int]:
    if math.isnan(value):
        return "NaN", _ATOM
    if math.isinf(value):
        return ("Infinity", _ATOM) if value > 0 else ("-Infinity", _UNARY)
    if abs(value) == math.pi:
        return ("Math.PI", _ATOM) if value > 0 else ("-Math.PI", _UNARY)
    text = str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
    if value == 0 and math.copysign(1, value) < 0:
        text = "-0"
    return text, _UNARY if text.startswith("-") else _ATOM
