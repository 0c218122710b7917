"""Expressions: the one form between a rule as people write it and every target it is printed to.

An expression is an immutable graph. Equal expressions are the same object, so common sub-expressions are
shared from the moment they are written.
"""

from __future__ import annotations

import functools
import math
import struct
import weakref
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Literal, TypeAlias

from kudari.errors import RuleError

Kind = Literal["scalar", "batch", "row", "column", "tensor", "factors"]
Operand: TypeAlias = "Expr | float | int"

UNARY = ("neg", "abs", "sqrt", "sign", "exp", "log", "sin", "cos", "floor")
BINARY = ("add", "sub", "mul", "div", "pow", "min", "max", "atan2")
COMPARE = ("lt", "le", "gt", "ge")
# Of 16-bit parameters and coded states; rules do not use them. For float32 x >= 0, whole n and u = 2**k, the
# bits of shift_root(x, n, u) are those of x shifted right by n, plus what makes it u at x = 1: it is near
# u * x**(1/2**n). shift_power(x, n, u, signed) is its inverse, 0 at 0, and odd if signed is not 0.
BITS = (
    "to_bf16",
    "to_f16",
    "stochastic_bf16",
    "stochastic_f16",
    "drawn_bf16",
    "dither",
    "shift_root",
    "shift_power",
)
SUMS = ("sum", "sum_model", "sum_rows", "sum_columns")


class Expr:
    """A node: an operation and its arguments.

    Attributes:
        op: ``slot`` and ``hyper`` (inputs, with ``name``), ``noise`` (random bits), ``const`` (with
            ``value``), one of :data:`UNARY`, :data:`BINARY`, :data:`COMPARE`, :data:`BITS`, ``where``,
            ``fma``, a sum over elements (:data:`SUMS`), or ``stage``: what an operation on whole tensors
            makes of its ``value``-th argument.
        args: arguments, in order.
        kind: ``tensor`` if it has one value for each element of the parameter; ``row``, ``column`` or
            ``batch`` if one for each row, column or matrix of the last two dimensions; ``factors`` if it is a
            list with a matrix or None for each dimension; else ``scalar``.

    Example:
        >>> x, s = slot("x"), hyper("s")
        >>> str(x * s + 1), (x * s).kind, (s + 1).kind
        ('x*s + 1', 'tensor', 'scalar')
        >>> x * s is x * s
        True
    """

    __slots__ = ("__weakref__", "args", "kind", "name", "op", "value")
    op: str
    args: tuple[Expr, ...]
    name: str
    value: float
    kind: Kind

    def __add__(self, other: Operand) -> Expr:
        return node("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return node("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return node("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return node("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return node("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return node("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return node("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return node("div", other, self)

    def __pow__(self, other: Operand) -> Expr:
        if isinstance(other, (int, float)) and other == 2:
            return node("mul", self, self)
        return node("pow", self, other)

    def __rpow__(self, other: Operand) -> Expr:
        return node("pow", other, self)

    def __neg__(self) -> Expr:
        return node("neg", self)

    def __abs__(self) -> Expr:
        return node("abs", self)

    def __lt__(self, other: Operand) -> Expr:
        return node("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return node("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return node("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return node("ge", self, other)

    def __bool__(self) -> bool:
        raise RuleError(
            f"The expression {self} was used as a condition.",
            why="A rule is traced once, before any number is known, so `if` cannot look at values.",
            fix="Write where(condition, a, b); `if` is for options such as nesterov.",
        )

    def __str__(self) -> str:
        return _text(self, 0)

    def __repr__(self) -> str:
        return f"Expr({self})"


_pool: weakref.WeakValueDictionary[tuple[object, ...], Expr] = weakref.WeakValueDictionary()


def _intern(op: str, args: tuple[Expr, ...], name: str, value: float, kind: Kind) -> Expr:
    # repr keeps 0.0 and -0.0 apart and finds NaN again; only constants have such values.
    key = (op, args, name, repr(value) if op == "const" else value, kind)
    found = _pool.get(key)
    if found is None:
        found = Expr()
        found.op, found.args, found.name, found.value, found.kind = op, args, name, value, kind
        _pool[key] = found
    return found


def slot(name: str, kind: Kind = "tensor") -> Expr:
    """A tensor argument: the parameter, its gradient or a state."""
    return _intern("slot", (), name, 0.0, kind)


def hyper(name: str) -> Expr:
    """A number known when the step is taken: a hyper-parameter, or the step count ``t``."""
    return _intern("hyper", (), name, 0.0, "scalar")


def const(value: float) -> Expr:
    """A number known when the rule is written."""
    return _intern("const", (), "", float(value), "scalar")


def noise() -> Expr:
    """32 random bits for each element, drawn anew at every step."""
    return _intern("noise", (), "", 0.0, "tensor")


def lift(value: Operand) -> Expr:
    """Numbers become constants; expressions stay."""
    return value if isinstance(value, Expr) else const(value)


def stage_value(name: str, args: tuple[Expr, ...], index: int) -> Expr:
    """What a stage makes of its argument number ``index``; values of one call share ``name`` and ``args``."""
    return _intern("stage", args, name, float(index), args[index].kind)


def node(op: str, *args: Operand) -> Expr:
    """Apply an operation; the result has as many values as its arguments need, a sum fewer."""
    lifted = tuple([a if isinstance(a, Expr) else const(a) for a in args])
    kinds = {a.kind for a in lifted}
    if "factors" in kinds:
        raise RuleError(
            f"{op} was applied to {next(a for a in lifted if a.kind == 'factors')}, a list of matrices.",
            why="Formulas go element by element; matrices are multiplied and inverted by stages.",
            fix="Pass the list to a stage, such as rotate(x, Q).",
        )
    kind = _sum_kind(op, lifted[0]) if op in SUMS else _join(kinds)
    folded = _fold(op, lifted)
    return folded if folded is not None else _intern(op, lifted, "", 0.0, kind)


def shift_offset(n: int, unit: float) -> int:
    """The number that "shift_root" adds to shifted bits and "shift_power" takes away."""
    return int(struct.unpack("<i", struct.pack("<f", unit))[0]) - (0x3F800000 >> n)


def _join(kinds: set[Kind]) -> Kind:
    """The kind of something computed element by element: rows and columns together make elements."""
    if "tensor" in kinds or {"row", "column"} <= kinds:
        return "tensor"
    order: tuple[Kind, ...] = ("row", "column", "batch")
    return next((kind for kind in order if kind in kinds), "scalar")


_SUM_KINDS: dict[tuple[str, Kind], Kind] = {
    ("sum", "tensor"): "scalar",
    ("sum_model", "tensor"): "scalar",
    ("sum_columns", "tensor"): "row",
    ("sum_columns", "column"): "batch",
    ("sum_rows", "tensor"): "column",
    ("sum_rows", "row"): "batch",
}


def _sum_kind(op: str, summed: Expr) -> Kind:
    if (op, summed.kind) not in _SUM_KINDS:
        raise RuleError(
            f"The sum {op}({summed}) is over something that has one value for each {summed.kind}.",
            fix="Sum over elements, or over the rows of what has one value a row (columns alike).",
        )
    return _SUM_KINDS[op, summed.kind]


def _fold(op: str, args: tuple[Expr, ...]) -> Expr | None:
    """Identities that hold for every float, NaN and infinities included."""
    if op in ("mul", "div") and args[1].op == "const" and args[1].value == 1.0:
        return args[0]
    if op == "mul" and args[0].op == "const" and args[0].value == 1.0:
        return args[1]
    if op == "neg" and args[0].op == "neg":
        return args[0].args[0]
    return None


def walk(roots: Iterable[Expr]) -> Iterator[Expr]:
    """Every node once, arguments before the nodes that use them."""
    return iter(_ordered(tuple(roots)))


@functools.lru_cache(maxsize=1024)
def _ordered(roots: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Kept, because a step that is lowered and printed is walked through some twenty times."""
    found: dict[Expr, None] = {}
    stack = list(reversed(roots))
    while stack:
        item = stack[-1]
        if item in found:
            stack.pop()
        elif item.args and (missing := [arg for arg in item.args if arg not in found]):
            stack += missing[::-1]
        else:
            found[item] = None
    return tuple(found)


def frontier(roots: Iterable[Expr], known: Container[Expr]) -> set[Expr]:
    """What expressions are made of: the known nodes in them, inputs, and values of stages.

    Nothing below a known node is looked at, as in :func:`substitute`, which takes much longer.
    """
    found: set[Expr] = set()
    seen: set[Expr] = set()
    stack = list(roots)
    while stack:
        item = stack.pop()
        if item not in seen:
            seen.add(item)
            if not item.args or item.op == "stage" or item in known:
                found.add(item)
            else:
                stack += item.args
    return found


def rebuild(expr: Expr, args: tuple[Expr, ...]) -> Expr:
    """The same operation on other arguments."""
    if args == expr.args:  # equal expressions are one object
        return expr
    if expr.op == "stage":
        return stage_value(expr.name, args, int(expr.value))
    return node(expr.op, *args)


def substitute(roots: Iterable[Expr], table: dict[Expr, Expr]) -> tuple[Expr, ...]:
    """Replace nodes wherever they occur; ``table`` maps old nodes to new ones."""
    roots = tuple(roots)
    done: dict[Expr, Expr] = dict(table)
    stack = list(roots)
    while stack:  # nothing below a node that is replaced is looked at
        item = stack[-1]
        if item in done:
            stack.pop()
        elif missing := [arg for arg in item.args if arg not in done]:
            stack += missing
        else:
            done[stack.pop()] = rebuild(item, tuple([done[arg] for arg in item.args]))
    return tuple(done[root] for root in roots)


def evaluate_scalar(op: str, args: tuple[float, ...]) -> float:
    """One scalar operation in float64, with IEEE results where Python would raise."""
    try:
        return _SCALAR[op](*args)
    except ZeroDivisionError:
        if args[0] == 0 or math.isnan(args[0]):
            return math.nan
        return math.copysign(math.inf, args[0]) * math.copysign(1.0, args[1])
    except OverflowError:
        return math.inf
    except ValueError:  # a pole of pow, or a value outside a function's domain
        return math.inf if op == "pow" and args[0] == 0 else math.nan


def _sign(x: float) -> float:
    return x if math.isnan(x) or x == 0 else math.copysign(1.0, x)


def _nan_min(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else min(a, b)


def _nan_max(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


_SCALAR: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: math.pow(a, b),
    "min": _nan_min,
    "max": _nan_max,
    "atan2": math.atan2,
    "neg": lambda a: -a,
    "abs": abs,
    "sqrt": math.sqrt,
    "sign": _sign,
    "exp": math.exp,
    "log": lambda a: -math.inf if a == 0 else math.log(a),
    "sin": math.sin,
    "cos": math.cos,
    "floor": lambda a: float(math.floor(a)),
    "lt": lambda a, b: float(a < b),
    "le": lambda a, b: float(a <= b),
    "gt": lambda a, b: float(a > b),
    "ge": lambda a, b: float(a >= b),
    "where": lambda c, a, b: a if c else b,
    "fma": lambda a, b, c: a * b + c,
}


def evaluate(expr: Expr, values: dict[str, float]) -> float:
    """The value of a scalar expression in float64.

    Example:
        >>> t = hyper("t")
        >>> evaluate(1 - 0.9**t, {"t": 2.0})
        0.18999999999999995
    """
    done: dict[Expr, float] = {}
    for item in walk([expr]):
        if item.op == "const":
            done[item] = item.value
        elif item.op == "hyper":
            done[item] = values[item.name]
        else:
            done[item] = evaluate_scalar(item.op, tuple(done[a] for a in item.args))
    return done[expr]


_INFIX = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2)}
_COMPARE_TEXT = {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def _text(expr: Expr, outer: int) -> str:
    if expr.op in ("slot", "hyper"):
        return expr.name
    if expr.op == "const":
        return f"{expr.value:g}" if expr.value != int(expr.value or 0) else str(int(expr.value))
    if expr.op in _INFIX:
        symbol, level = _INFIX[expr.op]
        space = " " if level == 1 else ""
        right = level + (expr.op in ("sub", "div"))
        text = f"{_text(expr.args[0], level)}{space}{symbol}{space}{_text(expr.args[1], right)}"
        return f"({text})" if level < outer else text
    if expr.op == "pow":
        return f"{_text(expr.args[0], 4)}**{_text(expr.args[1], 4)}"
    if expr.op == "neg":
        return f"(-{_text(expr.args[0], 3)})" if outer else f"-{_text(expr.args[0], 3)}"
    if expr.op in _COMPARE_TEXT:
        return f"({_text(expr.args[0], 1)} {_COMPARE_TEXT[expr.op]} {_text(expr.args[1], 1)})"
    if expr.op == "stage":
        return (
            f"{expr.name.partition(':')[0]}({', '.join(_text(a, 0) for a in expr.args if a.op != 'const')})"
        )
    return f"{expr.op}({', '.join(_text(a, 0) for a in expr.args)})"
