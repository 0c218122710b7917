"""Static judges over what reaches a loss: the last operation of a model against its criterion."""

from __future__ import annotations

import ast

from kudari.doctor.finding import Found
from kudari.doctor.static.project import file_of, find_module_class
from kudari.doctor.static.reading import ClassFacts, Reading, is_name, keyword, method_call

_F = "torch.nn.functional."
_CRITERIA = {
    "torch.nn.CrossEntropyLoss": "cross_entropy",
    "torch.nn.NLLLoss": "nll_loss",
    "torch.nn.BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
    "torch.nn.BCELoss": "binary_cross_entropy",
}
_LAYERS = {"torch.nn.Softmax": "softmax", "torch.nn.LogSoftmax": "log_softmax", "torch.nn.Sigmoid": "sigmoid"}
_FUNCTIONS = {
    **{f"{p}{n}": n for p in (_F, "torch.") for n in ("softmax", "log_softmax", "sigmoid")},
    f"{_F}logsigmoid": "log_sigmoid",
}
_VIEW_METHODS = (
    "squeeze",
    "view",
    "reshape",
    "flatten",
    "unsqueeze",
    "float",
    "transpose",
    "permute",
    "contiguous",
)
_PLAIN_LAYERS = ("torch.nn.Linear", "torch.nn.Conv2d", "torch.nn.Conv1d")


def _last(reading: Reading, node: ast.expr, depth: int = 8) -> tuple[str, ast.expr] | None:
    """The last operation that computed a value: its kind and its node; None where it cannot be followed."""
    if depth == 0:
        return None
    owner = method_call(node, *_VIEW_METHODS)
    if owner is not None:
        return _last(reading, owner, depth - 1)
    owner = method_call(node, "softmax", "log_softmax", "sigmoid", "log")
    if owner is not None and isinstance(node, ast.Call) and reading.called(node) not in _FUNCTIONS:
        assert isinstance(node.func, ast.Attribute)
        return node.func.attr, node
    if isinstance(node, ast.Call):
        name = reading.called(node)
        if name in _FUNCTIONS:
            return _FUNCTIONS[name], node
        if name == "torch.log":
            return "log", node
        return _last_of_call(reading, node, depth)
    if isinstance(node, (ast.Name, ast.Attribute)):
        values = _nearest(reading, node)
        return _last(reading, values, depth - 1) if values is not None else None
    return None


def _nearest(reading: Reading, node: ast.expr) -> ast.expr | None:
    """The value a name was last bound to before this line in its scope; None where loops may rebind it."""
    values = [v for v in reading.values(node) if v.lineno <= node.lineno and node not in ast.walk(v)]
    if not values or (len(values) != len(reading.values(node)) and isinstance(node, ast.Attribute)):
        return None
    return values[-1]


def _last_of_call(reading: Reading, call: ast.Call, depth: int) -> tuple[str, ast.expr] | None:
    made = _maker(reading, call.func)
    if made is None:
        return None
    name = reading.called(made)
    if name in _LAYERS:
        return _LAYERS[name], made
    if name in _PLAIN_LAYERS:
        return "layer", made
    if name == "torch.nn.Sequential" and made.args and not isinstance(made.args[-1], ast.Starred):
        last = made.args[-1]
        kind = reading.called(last)
        if kind in _LAYERS:
            return _LAYERS[kind], last
        return ("layer", last) if kind in _PLAIN_LAYERS else None
    facts = reading.modules.get(name or "")
    if facts is None:
        elsewhere = find_module_class(reading, name) if name else None
        return _last_of_class(*elsewhere, depth - 1) if elsewhere else None
    return _last_of_class(reading, facts, depth - 1)


def _maker(reading: Reading, node: ast.expr) -> ast.Call | None:
    values = reading.values(node)
    if len(values) != 1 or not isinstance(values[0], ast.Call):
        return None
    made = values[0]
    inner = method_call(made, "to", "cuda", "train", "double", "float")
    return inner if isinstance(inner, ast.Call) else made


def _last_of_class(reading: Reading, facts: ClassFacts, depth: int) -> tuple[str, ast.expr] | None:
    forward = facts.methods.get("forward")
    if forward is None:
        return None
    returns = [n for n in ast.walk(forward) if isinstance(n, ast.Return) and n.value is not None]
    if len(returns) != 1 or returns[0].value is None:
        return None
    return _last(reading, returns[0].value, depth)


def _loss_calls(reading: Reading) -> list[tuple[str, ast.Call]]:
    if "loss calls" not in reading.kept:
        reading.kept["loss calls"] = _find_loss_calls(reading)
    calls: list[tuple[str, ast.Call]] = reading.kept["loss calls"]
    return calls


def _find_loss_calls(reading: Reading) -> list[tuple[str, ast.Call]]:
    found = []
    if "Loss" not in reading.source and "entropy" not in reading.source and "nll_loss" not in reading.source:
        return []
    for call in reading.calls:
        if len(call.args) < 2:
            continue
        name = reading.called(call) or ""
        if name.startswith(_F) and name[len(_F) :] in _CRITERIA.values():
            found.append((name[len(_F) :], call))
        else:
            kind = _CRITERIA.get(reading.value_call(call.func) or "") or _CRITERIA.get(
                reading.called(call.func) or ""
            )
            if kind:
                found.append((kind, call))
    return [(kind, call) for kind, call in found if not reading.without_grad(call)]


def _wrong_last(reading: Reading, loss: str, wrong: tuple[str, ...], message: str) -> list[Found]:
    found = []
    for kind, call in _loss_calls(reading):
        if kind != loss:
            continue
        last = _last(reading, call.args[0])
        if last is not None and last[0] in wrong:
            found.append(
                Found(message, reading.place(call), {"count": 1, "made_at_line": last[1].lineno},
                      label=f"the {last[0].replace('layer', 'plain layer')} of "
                      f"{file_of(reading, last[1]) or 'line '}{last[1].lineno}")
            )  # fmt: skip
    return found


def read_softmax_before_cross_entropy(reading: Reading) -> list[Found]:
    """The value given to cross_entropy is a softmax."""
    return _wrong_last(
        reading,
        "cross_entropy",
        ("softmax",),
        "cross_entropy is given probabilities: softmax is applied twice",
    )


def read_sigmoid_before_bce(reading: Reading) -> list[Found]:
    """The value given to binary_cross_entropy_with_logits is a sigmoid."""
    return _wrong_last(
        reading, "binary_cross_entropy_with_logits", ("sigmoid",),
        "binary_cross_entropy_with_logits is given a sigmoid's output: the sigmoid is applied twice",
    )  # fmt: skip


def read_nll_without_log_softmax(reading: Reading) -> list[Found]:
    """The value given to nll_loss is a softmax or a plain layer."""
    return _wrong_last(
        reading, "nll_loss", ("softmax", "layer"), "nll_loss is given values that are no log-probabilities"
    )


def read_softmax_over_one_class(reading: Reading) -> list[Found]:
    """softmax right after a layer with one output."""
    found: list[Found] = []
    if "oftmax" not in reading.source:
        return found
    lost = {id(last[1]) for _, call in _loss_calls(reading) if (last := _last(reading, call.args[0]))}

    def over_classes(dim: ast.expr | None, node: ast.expr) -> bool:
        # Dimension 1 may hold the positions of a sequence: pooling by attention, unless a loss is given it.
        text = "" if dim is None else ast.unparse(dim)
        return text == "-1" or (text == "1" and id(node) in lost)

    for call in reading.calls:
        if reading.called(call) == "torch.nn.Sequential":
            for layer, after in zip(call.args, call.args[1:], strict=False):
                if reading.called(after) not in ("torch.nn.Softmax", "torch.nn.LogSoftmax"):
                    continue
                assert isinstance(after, ast.Call)
                if _one_output(reading, layer) and over_classes(keyword(after, "dim", 0), after):
                    found.append(_one_class(reading, after))
        elif _FUNCTIONS.get(reading.called(call) or "") in ("softmax", "log_softmax") and call.args:
            inner = call.args[0]
            if isinstance(inner, ast.Call) and is_name(getattr(inner.func, "value", None), "self"):
                made = _maker(reading, inner.func)
                over = over_classes(keyword(call, "dim", 1), call)
                if made is not None and over and _one_output(reading, made):
                    found.append(_one_class(reading, call))
    return found


def _one_output(reading: Reading, layer: ast.expr) -> bool:
    if not isinstance(layer, ast.Call) or reading.called(layer) != "torch.nn.Linear":
        return False
    width = keyword(layer, "out_features", 1)
    return isinstance(width, ast.Constant) and width.value == 1


def _one_class(reading: Reading, node: ast.expr) -> Found:
    return Found(
        "a softmax over a single class is always 1: the loss does not depend on the model",
        reading.place(node),
        {"count": 1},
        label="over one class",
    )


def read_batch_mixing(reading: Reading) -> list[Found]:
    """softmax over dim 0 of a model's output that reaches a loss."""
    found = []
    for _, call in _loss_calls(reading):
        last = _last(reading, call.args[0])
        if last is None or last[0] not in ("softmax", "log_softmax") or not isinstance(last[1], ast.Call):
            continue
        if last[1] not in reading.parents:
            continue  # its own file will show it, where a loss is in sight
        is_method = isinstance(last[1].func, ast.Attribute) and (reading.called(last[1]) not in _FUNCTIONS)
        is_layer = reading.called(last[1]) in _LAYERS
        dim = keyword(last[1], "dim", 0 if is_method or is_layer else 1)
        if isinstance(dim, ast.Constant) and dim.value == 0 and dim.value is not False:
            found.append(
                Found(
                    "softmax runs over the batch (dim=0): samples of one batch influence each other",
                    reading.place(last[1]),
                    {"count": 1},
                    fix="softmax over the classes: dim=1, or dim=-1",
                    label="over the batch",
                )
            )
    return found
