"""The eager printer: a rule or program as plain torch operations, for any device and as judge in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

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


def apply(op: str, args: tuple[Any, ...]) -> Value:
    """One operation on tensors and numbers."""
    tensors = [a for a in args if isinstance(a, Tensor)]
    if not tensors:
        return evaluate_scalar(op, args)
    if op == "sign":
        return _sign(args[0])
    if op in _UNARY:
        return _UNARY[op](args[0])
    if op in _BINARY:
        return cast(Tensor, _BINARY[op](*args))
    if op == "fma":
        return cast(Tensor, args[0] * args[1] + args[2])
    if op == "where":
        if not isinstance(args[0], Tensor):
            return cast(Value, args[1] if args[0] else args[2])
        return cast(Tensor, torch.where(*args))
    like = tensors[0]
    full = [a if isinstance(a, Tensor) else torch.full_like(like, a) for a in args]
    return _BOTH_TENSORS[op](*full)


def run(
    outputs: tuple[tuple[str, Expr], ...], slots: Mapping[str, Tensor], numbers: Mapping[str, float]
) -> dict[str, Tensor]:
    """Evaluate expressions on tensors.

    Args:
        outputs: name and expression pairs.
        slots: tensors of one shape, in the type the arithmetic is wanted in.
        numbers: value of every hyper-parameter in the expressions.

    Returns:
        A new tensor for each output; the inputs are not written to.
    """
    done: dict[Expr, Value] = {}
    for item in walk(e for _, e in outputs):
        if item.op == "slot":
            done[item] = slots[item.name]
        elif item.op == "hyper":
            done[item] = numbers[item.name]
        elif item.op == "const":
            done[item] = item.value
        else:
            done[item] = apply(item.op, tuple(done[a] for a in item.args))
    like = slots["p"]
    results = {name: done[e] for name, e in outputs}
    return {n: r if isinstance(r, Tensor) else torch.full_like(like, r) for n, r in results.items()}


def scalars(program: Program, numbers: Mapping[str, float]) -> dict[str, float]:
    """The program's host numbers ``s0, s1, ...`` in float64."""
    values: dict[Expr, float] = {}
    for item in walk(program.scalars):
        if item.op == "hyper":
            values[item] = numbers[item.name]
        elif item.op == "const":
            values[item] = item.value
        else:
            values[item] = evaluate_scalar(item.op, tuple(values[a] for a in item.args))
    return {f"s{i}": values[e] for i, e in enumerate(program.scalars)}


def step(program: Program, slots: Mapping[str, Tensor], numbers: Mapping[str, float]) -> None:
    """Run a program on one tensor and its states, in place, like a kernel would.

    Args:
        program: the lowered rule.
        slots: tensors by slot name, in their storage types and any strides.
        numbers: value of every name in ``program.hypers``.
    """
    compute = torch.float64 if program.compute == "f64" else torch.float32
    wide = {name: x.to(compute) for name, x in slots.items()}
    for name, value in run(program.outputs, wide, scalars(program, numbers)).items():
        slots[name].copy_(value)
