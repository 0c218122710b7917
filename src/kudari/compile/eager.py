"""The eager printer: a rule or program as plain torch operations, for any device and as judge in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from kudari.compile.eager_bits import BITS
from kudari.compile.expression import Expr, evaluate_scalar, walk
from kudari.compile.program import Program

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
            args = (args[0], *(torch.tensor(a, dtype=dtype, device=args[0].device) for a in args[1:]))
        return cast(Tensor, torch.where(*args))
    like = tensors[0]
    full = [a if isinstance(a, Tensor) else torch.full_like(like, a) for a in args]
    return _BOTH_TENSORS[op](*full)


def evaluate(
    expressions: tuple[Expr, ...], slots: Mapping[str, Tensor], numbers: Mapping[str, float]
) -> list[Value]:
    """Evaluate expressions on tensors.

    Args:
        expressions: without sums.
        slots: tensors of one shape, in the type the arithmetic is wanted in; under ``noise``, random bits
            in int32 for expressions that ask for them.
        numbers: value of every number in the expressions.

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
    program: Program, number: int, slots: Mapping[str, Tensor], numbers: Mapping[str, float]
) -> list[float]:
    """Run one pass of a program on one tensor and its states, in place, like a kernel would.

    Args:
        program: the lowered rule.
        number: which pass.
        slots: tensors by slot name, in their storage types (coded ones decoded) and any strides; ``noise``.
        numbers: value of every name in ``program.hypers``, ``numel``, and the sums of earlier passes.

    Returns:
        The sums of the pass, over this tensor.
    """
    part = program.passes[number]
    compute = torch.float64 if program.compute == "f64" else torch.float32
    wide = {name: slots[name].to(compute) for name in {*part.reads, "p"}}
    if program.draws:
        wide["noise"] = slots["noise"]
    host = evaluate(part.scalars, {}, numbers)
    known = {f"s{i}": float(value) for i, value in enumerate(host)}
    stores = len(part.outputs)
    found = evaluate(part.roots, wide, known)
    for (name, _), value in zip(part.outputs, found[:stores], strict=True):
        slots[name].copy_(value if isinstance(value, Tensor) else torch.full_like(slots[name], value))
    like = wide["p"]
    full = [x if isinstance(x, Tensor) else torch.full_like(like, x) for x in found[stores:]]
    return [x.sum(dtype=torch.float64).item() for x in full]
