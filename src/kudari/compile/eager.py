"""The eager printer: a rule or program as plain torch operations, for any device and as judge in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from kudari.compile.eager_bits import BITS
from kudari.compile.expression import Expr, evaluate_scalar, slot, walk
from kudari.compile.program import Program, Vector, sum_name

Value = Tensor | float

_UNARY: dict[str, Callable[..., Tensor]] = {
    "neg": torch.neg,
    "abs": torch.abs,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "log": torch.log,
    "sin": torch.sin,
    "cos": torch.cos,
    "floor": torch.floor,
}
_BINARY: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
_BOTH_TENSORS: dict[str, Callable[..., Tensor]] = {
    "min": torch.minimum,
    "max": torch.maximum,
    "atan2": torch.atan2,
}


def _sign(x: Tensor) -> Tensor:
    """torch.sign gives 0 for NaN; a rule's sign keeps NaN visible."""
    return torch.where(torch.isnan(x), x, torch.sign(x))


def apply(op: str, args: tuple[Any, ...], dtype: torch.dtype = torch.float64) -> Value:
    """One operation on tensors and numbers; ``dtype`` is that of a choice between two numbers."""
    tensors = [a for a in args if isinstance(a, Tensor)]
    if not tensors:
        return evaluate_scalar(op, args)
    if op == "sign":
        return _sign(args[0])
    if op in _UNARY:
        return _UNARY[op](args[0])
    if op in BITS:
        return BITS[op](*args)
    if op in _BINARY:
        return cast(Tensor, _BINARY[op](*args))
    if op == "fma":
        return cast(Tensor, args[0] * args[1] + args[2])
    if op == "where":
        if not isinstance(args[0], Tensor):
            return cast(Value, args[1] if args[0] else args[2])
        if not any(isinstance(a, Tensor) for a in args[1:]):
            args = (args[0], *(torch.full((), a, dtype=dtype, device=args[0].device) for a in args[1:]))
        return cast(Tensor, torch.where(*args))
    like = tensors[0]
    full = [a if isinstance(a, Tensor) else torch.full_like(like, a) for a in args]
    return _BOTH_TENSORS[op](*full)


def evaluate(
    expressions: tuple[Expr, ...], slots: Mapping[str, Tensor], numbers: Mapping[str, Value]
) -> list[Value]:
    """Evaluate expressions on tensors.

    Args:
        expressions: without sums.
        slots: tensors of one shape, in the type the arithmetic is wanted in; under ``noise``, random bits
            in int32 for expressions that ask for them.
        numbers: value of every number in the expressions; a tensor with no dimension stays one.

    Returns:
        A new tensor, or a number, for each expression; the inputs are not written to.
    """
    done: dict[Expr, Value] = {}
    dtype = next((x.dtype for x in slots.values() if x.is_floating_point()), torch.float64)
    for item in walk(expressions):
        if item.op == "noise":
            done[item] = slots["noise"]
        elif item.op == "slot":
            done[item] = slots[item.name]
        elif item.op == "hyper":
            done[item] = numbers[item.name]
        elif item.op == "const":
            done[item] = item.value
        else:
            done[item] = apply(item.op, tuple(done[a] for a in item.args), dtype)
    return [done[e] for e in expressions]


def run_pass(
    program: Program, number: int, slots: dict[str, Tensor], numbers: Mapping[str, float]
) -> list[float]:
    """Run one pass of a program on one tensor and its states, in place, like a kernel would.

    Args:
        program: the lowered rule.
        number: which pass.
        slots: tensors by slot name, in their storage types (coded ones decoded) and any strides; random bits
            as ``noise``; scratch slots are added to it.
        numbers: value of every name in ``program.hypers``, ``numel``, ``rows`` and ``columns``, and the sums
            of earlier passes.

    Returns:
        The sums of the pass, over this tensor; 0 in the places of those over rows and columns.
    """
    part = program.passes[number]
    compute = torch.float64 if program.compute == "f64" else torch.float32
    step = {s.name: part.every // s.every for s in program.slots}
    host = evaluate(part.scalars, {}, numbers)
    known = {f"s{i}": float(value) for i, value in enumerate(host)}

    def wide(roots: tuple[Expr, ...]) -> dict[str, Tensor]:
        """The slots that expressions read, in the type of the arithmetic."""
        names = {e.name for e in walk(roots) if e.op == "slot"}
        thin = {n: x.flatten()[:: step[n]] if step[n] > 1 else x for n, x in slots.items() if n in names}
        drawn = {"noise": slots["noise"]} if any(e.op == "noise" for e in walk(roots)) else {}
        return {n: x.to(compute) for n, x in thin.items()} | drawn

    for vector in part.vectors:
        (value,) = evaluate((vector.expr,), wide((vector.expr,)), known)
        _store(slots, vector.name, _totals(program, vector, value) if vector.total else value)
    values = wide((*part.roots, slot("p")))
    found = evaluate(part.roots, values, known)
    stores = len(part.outputs)
    for (name, _), value in zip(part.outputs, found[:stores], strict=True):
        _store(slots, name, value)
    like = values["p"]
    full = [x if isinstance(x, Tensor) else torch.full_like(like, x) for x in found[stores:]]
    totals = [0.0] * len(full)
    for i, (summed, x) in enumerate(zip(part.sums, full, strict=True)):
        if summed.scope in _ACROSS:
            slots[sum_name(part.first_sum + i)] = x.sum(_ACROSS[summed.scope], keepdim=True)
        else:
            totals[i] = x.sum(dtype=torch.float64).item()
    return totals


# The dimension that is summed over for one sum a row, and for one a column.
_ACROSS: dict[str, int] = {"row": -1, "column": -2}


def _totals(program: Program, vector: Vector, value: Value) -> Tensor:
    """The sum of what has one value a row over each matrix, for each of its rows; columns alike."""
    assert isinstance(value, Tensor)
    shape = next(s.shape for s in program.slots if s.name == vector.name)
    return value.sum(-2 if shape == "rows" else -1, keepdim=True).expand_as(value)


def _store(slots: dict[str, Tensor], name: str, value: Value) -> None:
    """Give a slot its new value; a scratch slot that is not there yet is made."""
    if name in slots:
        slots[name].copy_(value if isinstance(value, Tensor) else torch.full_like(slots[name], value))
    else:
        slots[name] = torch.as_tensor(value)
