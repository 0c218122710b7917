"""Which operation made a loss non-finite: read from the saved tensors of its graph."""

from __future__ import annotations

from typing import Any

import torch

from kudari.doctor.observe.graph import local_part, saved, walk

_HALF = (torch.float16,)


def _bad(tensor: Any) -> bool:
    tensor = local_part(tensor)
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.is_floating_point()
        and not bool(torch.isfinite(tensor).all())
    )


def _has_zero(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and bool((local_part(tensor) == 0).any())


def autopsy(loss: Any) -> dict[str, Any]:
    """Classify the origin of a non-finite loss whose graph is still alive.

    Returns:
        ``cause`` (one of ``weights``, ``log``, ``sqrt``, ``division``, ``power``, ``overflow``, ``input``,
        ``unknown``), ``operation`` (the node's name) and ``detail`` (a phrase with what was seen).
    """
    graph = walk(loss.grad_fn)
    if any(_bad(leaf.detach()) for leaf in graph.leaves):
        return {"cause": "weights", "operation": "", "detail": "parameters are not finite already"}
    for node in reversed(graph.nodes):
        verdict = _examine(node)
        if verdict is not None:
            cause, detail = verdict
            return {
                "cause": cause,
                "operation": type(node).__name__.removesuffix("Backward0"),
                "detail": detail,
            }
    return {"cause": "unknown", "operation": "", "detail": "no saved value shows the operation"}


def _examine(node: Any) -> tuple[str, str] | None:
    name = type(node).__name__
    examine = _EXAMINERS.get(name)
    if examine is not None:
        verdict: tuple[str, str] | None = examine(node)
        if verdict is not None:
            return verdict
    result = saved(node, "result")
    if _bad(result):
        if result.dtype in _HALF:
            return "overflow", f"a value beyond the range of {str(result.dtype).removeprefix('torch.')}"
        return "overflow", "its result is not finite"
    return None


def _log(node: Any) -> tuple[str, str] | None:
    x = saved(node, "self")
    if x is None or _bad(x):
        return None
    low = float(x.detach().min())
    return ("log", f"log of {low:g}") if low <= 0 else None


def _sqrt(node: Any) -> tuple[str, str] | None:
    y = saved(node, "result")
    if y is None:
        return None
    return ("sqrt", "square root of a negative number") if _bad(y) else None


def _division(node: Any) -> tuple[str, str] | None:
    return ("division", "division by 0") if _has_zero(saved(node, "other")) else None


def _power(node: Any) -> tuple[str, str] | None:
    x, y = saved(node, "self"), saved(node, "exponent")
    if x is None or _bad(x) or isinstance(y, torch.Tensor):
        return None
    if float(y) < 0 and _has_zero(x):
        return "power", f"0 to the power of {float(y):g}"
    if float(y) != int(float(y)) and float(x.detach().min()) < 0:
        return "power", f"a negative number to the power of {float(y):g}"
    return None


def _matmul(node: Any) -> tuple[str, str] | None:
    for name in ("mat1", "self", "input"):
        x = saved(node, name)
        if isinstance(x, torch.Tensor):
            return ("input", "the values that enter the layer are not finite") if _bad(x) else None
    return None


_EXAMINERS: dict[str, Any] = {
    "LogBackward0": _log,
    "Log2Backward0": _log,
    "Log10Backward0": _log,
    "SqrtBackward0": _sqrt,
    "DivBackward0": _division,
    "PowBackward0": _power,
    "AddmmBackward0": _matmul,
    "MmBackward0": _matmul,
    "ConvolutionBackward0": _matmul,
}
