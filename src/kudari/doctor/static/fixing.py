"""Fixes that are certain: applied to source by ``kudari check --fix`` and tried by ``doctor --try-fix``.

A fix is certain where the finding is a fact and one edit of the named lines removes it whatever the rest of
the program does. Where that cannot be read from the file, there is no fix, only the advice of the finding.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kudari.doctor.finding import Finding
from kudari.doctor.static.edits import Edit, Source
from kudari.doctor.static.reading import Reading, keyword, method_call, text

_F = "torch.nn.functional."


@dataclass(frozen=True)
class Patient:
    """One file with its finding.

    Attributes:
        at: calls on the line of the finding, outermost first.
    """

    reading: Reading
    source: Source
    finding: Finding

    @property
    def at(self) -> list[ast.Call]:
        line = [c for c in self.reading.calls if c.lineno == self.finding.line]
        exact = [c for c in line if c.col_offset == self.finding.column]
        return exact or line

    def statement(self, node: ast.AST) -> ast.stmt | None:
        """The statement a node belongs to, where it can be moved: alone on its lines."""
        inner = next((n for n in [node, *self.reading.up(node)] if isinstance(n, ast.stmt)), None)
        return inner if inner is not None and self.source.stands_alone(inner) else None

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """The statements beside a statement, itself included."""
        parent = self.reading.parents.get(statement)
        for name in ("body", "orelse", "finalbody"):
            items = getattr(parent, name, None)
            if isinstance(items, list) and statement in items:
                return items
        return [statement]

    def beside(self, statement: ast.stmt, *methods: str) -> list[tuple[ast.stmt, ast.Call]]:
        """Statements of the same block that are a call of such a method or function."""
        found = []
        for item in self.block(statement):
            call = item.value if isinstance(item, ast.Expr) else None
            if (
                isinstance(call, ast.Call)
                and _last_name(call.func) in methods
                and self.source.stands_alone(item)
            ):
                found.append((item, call))
        return found


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _missing_zero_grad(p: Patient) -> list[Edit]:
    for call in p.at:
        owner = method_call(call, "step")
        statement = p.statement(call)
        if owner is None or not isinstance(statement, (ast.Expr, ast.Assign)):
            continue
        scaler = "scaler" in text(owner).lower() and call.args
        target = p.source.of(call.args[0]) if scaler else p.source.of(owner)
        # scaler.update() stays right behind the step
        updates = [s for s, _ in p.beside(statement, "update") if scaler and s.lineno > statement.lineno]
        last: ast.stmt = updates[0] if updates else statement
        return [p.source.after(last, f"{target}.zero_grad()")]
    return []


def _zero_grad_breaks_accumulation(p: Patient) -> list[Edit]:
    wipes = [c for c in p.reading.calls if method_call(c, "zero_grad") is not None]
    steps = [
        c for c in p.reading.calls if method_call(c, "step") is not None and "opt" in text(c.func).lower()
    ]
    if len(wipes) != 1 or len(steps) != 1:
        return []
    wipe, step = p.statement(wipes[0]), p.statement(steps[0])
    if wipe is None or step is None or len(p.block(wipe)) < 2:
        return []
    return [p.source.removed(wipe), p.source.after(step, p.source.of(wipes[0]))]


def _clip(p: Patient) -> list[Edit]:
    for call in p.at:
        statement = p.statement(call) if "clip" in _last_name(call.func) else None
        if not isinstance(statement, ast.Expr):
            continue
        backwards, steps = p.beside(statement, "backward"), p.beside(statement, "step")
        if len(backwards) != 1 or not steps or steps[0][0].lineno < backwards[0][0].lineno:
            return []
        return [p.source.removed(statement), p.source.after(backwards[0][0], p.source.of(call))]
    return []


def _clip_before_unscale(p: Patient) -> list[Edit]:
    for call in p.at:
        statement = p.statement(call) if "clip" in _last_name(call.func) else None
        if statement is None:
            continue
        steps = [(s, c) for s, c in p.beside(statement, "step") if len(c.args) == 1]
        if len(steps) != 1:
            return []
        owner = method_call(steps[0][1], "step")
        assert owner is not None
        late = [s for s, _ in p.beside(statement, "unscale_")]
        first = f"{p.source.of(owner)}.unscale_({p.source.of(steps[0][1].args[0])})"
        return [p.source.before(statement, first), *map(p.source.removed, late)]
    return []


def _scheduler_before_optimizer(p: Patient) -> list[Edit]:
    for call in p.at:
        statement = p.statement(call) if method_call(call, "step") is not None else None
        if statement is None or call.args:
            continue
        block = p.block(statement)
        last = block[-1]
        in_loop = isinstance(p.reading.parents.get(statement), (ast.For, ast.While))
        if not in_loop or last is statement or isinstance(last, (ast.Break, ast.Continue, ast.Return)):
            return []
        return [p.source.removed(statement), p.source.after(last, p.source.of(call))]
    return []


def _inner(*names: str) -> Callable[[Patient], list[Edit]]:
    """Drop a function that is applied to the first argument of the loss, right in its call."""

    def fix(p: Patient) -> list[Edit]:
        for call in p.at:
            first = call.args[0] if len(call.args) > 1 else None
            if not isinstance(first, ast.Call):
                continue
            name = p.reading.called(first) or ""
            owner = method_call(first, *names)
            if name in {f"{m}{n}" for m in (_F, "torch.") for n in names} and first.args:
                return [p.source.replaced(first, p.source.of(first.args[0]))]
            if owner is not None and not name.startswith("torch."):
                return [p.source.replaced(first, p.source.of(owner))]
        return []

    return fix


def _loss_shape_broadcast(p: Patient) -> list[Edit]:
    left, right = p.finding.evidence.get("left"), p.finding.evidence.get("right")
    if not left or not right:
        return []
    for call in p.at:
        if len(call.args) != 2:
            continue
        side = call.args[0] if len(left) > len(right) else call.args[1]
        if (left if len(left) > len(right) else right)[-1] != 1:
            return []
        typed = p.source.of(side)
        plain = isinstance(side, (ast.Name, ast.Attribute, ast.Call, ast.Subscript))
        return [p.source.replaced(side, f"{typed if plain else f'({typed})'}.squeeze(-1)")]
    return []


def _retained_graph(p: Patient) -> list[Edit]:
    for node in p.reading.nodes:
        if getattr(node, "lineno", None) != p.finding.line:
            continue
        stored = None
        if isinstance(node, ast.AugAssign):
            stored = node.value
        elif isinstance(node, ast.Call) and method_call(node, "append") is not None and len(node.args) == 1:
            stored = node.args[0]
        if isinstance(stored, ast.Name):
            return [p.source.replaced(stored, f"{stored.id}.detach()")]
    return []


def _modules_in_python_list(p: Patient) -> list[Edit]:
    names = [n for n, full in p.reading.aliases.items() if full == "torch.nn"]
    prefix = names[0] if names else "torch.nn" if p.reading.aliases.get("torch") == "torch" else ""
    attribute = p.finding.message.split(" ")[0].split(".")[-1]
    kind = p.finding.message.split(" ")[0].split(".")[0]
    facts = p.reading.modules.get(kind)
    values = facts.attributes.get(attribute, []) if facts is not None else []
    if not prefix or len(values) != 1 or not isinstance(values[0], (ast.List, ast.ListComp)):
        return []
    return [p.source.replaced(values[0], f"{prefix}.ModuleList({p.source.of(values[0])})")]


def _dropout_always_on(p: Patient) -> list[Edit]:
    for call in p.at:
        name = p.reading.called(call) or ""
        facts = p.reading.class_of(call)
        if facts is None or facts.node.name not in p.reading.modules or not name.startswith(_F):
            continue
        if name.endswith("scaled_dot_product_attention"):
            rate = keyword(call, "dropout_p")
            if rate is not None and not isinstance(rate, ast.IfExp):
                return [p.source.replaced(rate, f"{p.source.of(rate)} if self.training else 0.0")]
        elif "dropout" in name and keyword(call, "training", 2) is None and call.args:
            last = [*call.args, *(k.value for k in call.keywords)][-1]
            return [Edit(p.source.span(last)[1], p.source.span(last)[1], ", training=self.training")]
    return []


def _grad_enabled_in_eval(p: Patient) -> list[Edit]:
    function = next((f for c in p.at if (f := p.reading.function_of(c)) is not None), None)
    if function is None or p.reading.aliases.get("torch") != "torch":
        return []
    words = {n.attr for n in ast.walk(function) if isinstance(n, ast.Attribute)}
    evaluates = any(method_call(n, "eval") is not None for n in ast.walk(function))
    if (
        words & {"backward", "grad", "requires_grad_", "step"}
        or not evaluates
        or p.reading.without_grad(function)
    ):
        return []
    return [p.source.before(function, "@torch.no_grad()")]


def _plateau_scheduler_wrong_mode(p: Patient) -> list[Edit]:
    for call in p.at:
        if _last_name(call.func) == "ReduceLROnPlateau" and call.args:
            given = keyword(call, "mode", 1)
            if given is not None:
                other = "max" if isinstance(given, ast.Constant) and given.value == "min" else "min"
                return [p.source.replaced(given, f'"{other}"')]
            end = p.source.span(call.args[0])[1]
            return [Edit(end, end, ', mode="max"')]
    return []


def _missing_set_epoch(p: Patient) -> list[Edit]:
    for loop in (n for n in p.reading.nodes if isinstance(n, ast.For)):
        samplers = [
            name for (_, name), values in p.reading.bindings.items()
            if any((p.reading.called(v) or "").endswith("DistributedSampler") for v in values)
        ]  # fmt: skip
        counted = isinstance(loop.target, ast.Name) and p.reading.called(loop.iter) == "range"
        inner = any(isinstance(n, ast.For) and n is not loop for n in ast.walk(loop))
        if counted and inner and len(samplers) == 1 and p.source.stands_alone(loop.body[0]):
            assert isinstance(loop.target, ast.Name)
            return [p.source.before(loop.body[0], f"{samplers[0]}.set_epoch({loop.target.id})")]
    return []


CERTAIN: dict[str, Callable[[Patient], list[Edit]]] = {
    "missing-zero-grad": _missing_zero_grad,
    "zero-grad-breaks-accumulation": _zero_grad_breaks_accumulation,
    "clip-after-step": _clip,
    "clip-before-backward": _clip,
    "clip-before-unscale": _clip_before_unscale,
    "scheduler-before-optimizer": _scheduler_before_optimizer,
    "softmax-before-cross-entropy": _inner("softmax"),
    "sigmoid-before-bce-with-logits": _inner("sigmoid"),
    "loss-shape-broadcast": _loss_shape_broadcast,
    "retained-graph": _retained_graph,
    "modules-in-python-list": _modules_in_python_list,
    "dropout-always-on": _dropout_always_on,
    "grad-enabled-in-eval": _grad_enabled_in_eval,
    "plateau-scheduler-wrong-mode": _plateau_scheduler_wrong_mode,
    "missing-set-epoch": _missing_set_epoch,
}


def fixed(path: str, source: str, findings: Sequence[Finding]) -> tuple[str, str]:
    """Apply the first certain fix among findings to the text of their file.

    Args:
        path: of the file; findings elsewhere are left alone.
        source: its text.
        findings: from the run or from the source.

    Returns:
        The new text and the slug whose fix is in it; the old text and nothing where no fix is certain, or
        where its result would not parse.
    """
    try:
        reading = Reading(path, source)
    except (SyntaxError, ValueError):
        return source, ""
    for finding in findings:
        edits = certain_edits(reading, source, finding) if finding.file == path else []
        if edits:
            new = Source(source).apply(edits)
            with contextlib.suppress(SyntaxError):
                ast.parse(new)
                return new, finding.fault
    return source, ""


def certain_edits(reading: Reading, source: str, finding: Finding) -> list[Edit]:
    """The edits that cure one finding; empty where no fix is certain."""
    cure = CERTAIN.get(finding.fault)
    if cure is None or finding.line is None or finding.suppressed_by is not None:
        return []
    return cure(Patient(reading, Source(source), finding))
