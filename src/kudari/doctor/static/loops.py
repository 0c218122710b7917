"""The order of backward, step, wipe, clip and schedule in the loops of a file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kudari.doctor.static.reading import Function, Loop, Reading, is_name, keyword, method_call, text

Kind = Literal["backward", "step", "wipe", "clip", "unscale", "scheduler", "scaler_step"]
MAX_INLINE = 3
_WIPING_HELPERS = ("zero_grad", "clear_grad", "reset_grad")


@dataclass(frozen=True)
class Act:
    """One act of the training protocol.

    Attributes:
        kind: what is done.
        node: the call.
        who: source of the object it is done to, such as ``opt`` or ``self.opt``.
        condition: the test it stands under inside the loop, None when unconditional.
    """

    kind: Kind
    node: ast.Call
    who: str
    condition: ast.expr | None


@dataclass(frozen=True)
class Body:
    """The acts of one loop, in the order of the text, with functions of the file inlined."""

    loop: Loop
    acts: tuple[Act, ...]
    opaque: bool

    def of(self, kind: Kind) -> list[Act]:
        """Acts of one kind."""
        return [act for act in self.acts if act.kind == kind]


def training_bodies(reading: Reading) -> list[Body]:
    """The innermost loops whose iteration runs both backward and step."""
    if "training bodies" not in reading.kept:
        reading.kept["training bodies"] = _training_bodies(reading)
    bodies: list[Body] = reading.kept["training bodies"]
    return bodies


def _training_bodies(reading: Reading) -> list[Body]:
    if "backward(" not in reading.source or ".step(" not in reading.source:
        return []
    found = []
    for loop in (n for n in reading.nodes if isinstance(n, (ast.For, ast.While))):
        acts, opaque = _acts(reading, loop.body, loop)
        body = Body(loop, tuple(acts), opaque)
        if body.of("backward") and (body.of("step") or body.of("scaler_step")):
            found.append(body)
    # An outer loop repeats what its inner loop does; only the innermost tells the order.
    inner = {id(body.loop) for body in found}
    return [
        b
        for b in found
        if not any(id(n) in inner for s in b.loop.body for n in ast.walk(s) if n is not b.loop)
    ]


def _acts(
    reading: Reading, body: list[ast.stmt], top: ast.AST, depth: int = 0, condition: ast.expr | None = None
) -> tuple[list[Act], bool]:
    acts: list[Act] = []
    opaque = False
    for call in _calls(body):
        test = condition if condition is not None else _condition(reading, call, top)
        act = _classify(reading, call, test)
        if act is not None:
            acts.append(act)
            continue
        target = _inlined(reading, call)
        if target is not None and depth < MAX_INLINE:
            more, inner = _acts(reading, target.body, target, depth + 1, test)
            acts += more
            opaque = opaque or inner
        elif any(isinstance(a, ast.Lambda) for a in call.args):
            opaque = True
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Attribute) and t.attr == "grad" for t in node.targets
            ):
                fake = ast.Call(
                    func=ast.Name(id="grad"),
                    args=[],
                    keywords=[],
                    lineno=node.lineno,
                    col_offset=node.col_offset,
                )
                acts.append(Act("wipe", fake, "grad", None))
    return acts, opaque


def _calls(body: list[ast.stmt]) -> Iterator[ast.Call]:
    """Calls in the order they run: inner ones first, nested functions left out."""
    for statement in body:
        yield from _calls_in(statement)


def _calls_in(node: ast.AST) -> Iterator[ast.Call]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
        return
    for child in ast.iter_child_nodes(node):
        yield from _calls_in(child)
    if isinstance(node, ast.Call):
        yield node


def _condition(reading: Reading, node: ast.AST, top: ast.AST) -> ast.expr | None:
    child: ast.AST = node
    for ancestor in reading.up(node):
        if ancestor is top:
            return None
        if isinstance(ancestor, ast.If) and child is not ancestor.test:
            return ancestor.test
        child = ancestor
    return None


def _inlined(reading: Reading, call: ast.Call) -> Function | None:
    function = call.func
    if isinstance(function, ast.Name):
        return reading.functions.get(function.id)
    if isinstance(function, ast.Attribute) and is_name(function.value, "self"):
        return reading.functions.get(function.attr)
    if isinstance(function, ast.Attribute) and function.attr not in (
        "step",
        "backward",
        "zero_grad",
        "train",
        "eval",
    ):
        target = reading.functions.get(function.attr)
        inside = reading.class_of(target) if target is not None else None
        return target if inside is not None else None
    return None


def kind_of_stepper(reading: Reading, owner: ast.expr) -> Literal["step", "scheduler", "scaler_step"] | None:
    """What ``owner.step()`` steps, by what it was made from or else by its name."""
    made = reading.value_call(owner) or ""
    if made.startswith("torch.optim.lr_scheduler."):
        return "scheduler"
    if made.startswith(("torch.optim.", "kudari.optim.")):
        return "step"
    if made.endswith("GradScaler"):
        return "scaler_step"
    last = (
        owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
    ).lower()
    if "sched" in last:
        return "scheduler"
    if "scaler" in last:
        return "scaler_step"
    return "step" if "opt" in last else None


def _classify(reading: Reading, call: ast.Call, condition: ast.expr | None) -> Act | None:
    name = reading.called(call) or ""
    owner = method_call(
        call, "backward", "zero_grad", "step", "unscale_", "clip_grad_norm_", "clip_grad_value_"
    )
    if name.endswith(("clip_grad_norm_", "clip_grad_value_", "clip_gradients")):
        return Act("clip", call, text(call.args[0]) if call.args else "", condition)
    if name == "torch.autograd.backward":
        return Act("backward", call, "", condition)
    if owner is None:
        return None
    assert isinstance(call.func, ast.Attribute)
    method = call.func.attr
    if method == "backward":
        return Act("backward", call, text(owner), condition)
    if method == "zero_grad":
        return Act("wipe", call, text(owner), condition)
    if method == "unscale_":
        return Act("unscale", call, text(call.args[0]) if call.args else "", condition)
    if method == "step":
        kind = kind_of_stepper(reading, owner)
        return Act(kind, call, text(owner), condition) if kind else None
    return None


def wipes_elsewhere(reading: Reading) -> bool:
    """True when gradients are set by assignment, in a hook, or by a helper that is not in this file."""
    for node in reading.nodes:
        if isinstance(node, ast.Attribute) and node.attr == "grad" and isinstance(node.ctx, ast.Store):
            return True
        held = method_call(node, "zero_", "fill_", "mul_")
        if isinstance(held, ast.Attribute) and held.attr in ("grad", "data"):
            return True
        if isinstance(node, ast.Call):
            name = (reading.called(node) or "").split(".")[-1]
            if any(word in name for word in _WIPING_HELPERS) and name != "zero_grad":
                return True
    return False


def is_counter_test(test: ast.expr | None) -> bool:
    """True for conditions such as ``(i + 1) % k == 0``."""
    return test is not None and any(
        isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod) for n in ast.walk(test)
    )


def infinite(call: ast.Call) -> bool:
    """True for a clip whose limit is infinite: only the norm is wanted."""
    limit = keyword(call, "max_norm", 1)
    return limit is not None and "inf" in text(limit)
