"""Static judges over Module classes: containers, mode methods, functional dropout."""

from __future__ import annotations

import ast

from kudari.doctor.finding import Found
from kudari.doctor.static.reading import ClassFacts, Reading, is_name, keyword

_CONTAINERS = (ast.List, ast.Dict, ast.ListComp, ast.DictComp, ast.Tuple)
_TEACHER_WORDS = ("teacher", "frozen", "ema", "target", "momentum")
_DROPOUTS = tuple(
    f"torch.nn.functional.{n}" for n in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout")
)


def _makes_module(reading: Reading, node: ast.AST) -> bool:
    """True for a call that builds a Module, by torch's names or a class of this file."""
    if not isinstance(node, ast.Call):
        return False
    name = reading.called(node)
    if name is None:
        return False
    if name.startswith("torch.nn.") and name.count(".") == 2:
        last = name.split(".")[-1]
        return last[:1].isupper() and last not in ("Parameter", "ModuleList", "ModuleDict", "ParameterList")
    return name in reading.modules


def _elements(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, (ast.List, ast.Tuple)):
        return node.elts
    if isinstance(node, ast.Dict):
        return node.values
    if isinstance(node, ast.ListComp):
        return [node.elt]
    if isinstance(node, ast.DictComp):
        return [node.value]
    return []


def read_module_lists(reading: Reading) -> list[Found]:
    """Layers kept in a plain container on ``self`` and used in ``forward``."""
    found = []
    for name, facts in reading.modules.items():
        used = {
            n.attr
            for method in facts.methods.values()
            if method.name != "__init__"
            for n in ast.walk(method)
            if isinstance(n, ast.Attribute) and is_name(n.value, "self")
        }
        for attribute, values in facts.attributes.items():
            if attribute not in used or any(word in attribute.lower() for word in _TEACHER_WORDS):
                continue
            container = next((v for v in values if isinstance(v, _CONTAINERS)), None)
            if container is None or not all(isinstance(v, _CONTAINERS) for v in values):
                continue
            spot = _first_layer(reading, facts, attribute, container)
            if spot is None or _registered(reading, facts, attribute):
                continue
            kind = "ModuleDict" if isinstance(container, (ast.Dict, ast.DictComp)) else "ModuleList"
            found.append(
                Found(
                    f"{name}.{attribute} keeps layers in a plain container: parameters() does not list them",
                    reading.place(reading.parents[container]),
                    {"count": 1},
                    fix=f"self.{attribute} = nn.{kind}(...)",
                    label="a plain container",
                )
            )
    return found


def _first_layer(reading: Reading, facts: ClassFacts, attribute: str, container: ast.expr) -> ast.AST | None:
    for element in _elements(container):
        if _makes_module(reading, element):
            return element
    for method in facts.methods.values():
        for node in ast.walk(method):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            holder = node.func.value
            is_ours = (
                isinstance(holder, ast.Attribute)
                and is_name(holder.value, "self")
                and holder.attr == attribute
            )
            if is_ours and node.func.attr == "append" and node.args and _makes_module(reading, node.args[0]):
                return node
    return None


def _registered(reading: Reading, facts: ClassFacts, attribute: str) -> bool:
    """Also given to add_module, ModuleList, Sequential(*list) or an optimizer anywhere in the file."""
    for node in reading.nodes:
        if not isinstance(node, ast.Attribute) or node.attr != attribute:
            continue
        for ancestor in reading.up(node):
            if isinstance(ancestor, ast.Call):
                name = reading.called(ancestor) or ""
                last = name.split(".")[-1]
                if last in ("ModuleList", "ModuleDict", "Sequential", "ParameterList") or "optim" in name:
                    return True
            if isinstance(ancestor, ast.For) and node in ast.walk(ancestor.iter):
                body = " ".join(ast.unparse(s) for s in ancestor.body)
                if (
                    "add_module" in body
                    or "register_module" in body
                    or "setattr" in body
                    or "parameters()" in body
                ):
                    return True
            if isinstance(ancestor, (ast.FunctionDef, ast.ClassDef)):
                if isinstance(ancestor, ast.FunctionDef) and ancestor.name == "parameters":
                    return True
                break
        parent = reading.parents.get(node)
        if isinstance(parent, ast.comprehension):
            outer = " ".join(ast.unparse(a) for a in list(reading.up(node))[1:3] if isinstance(a, ast.expr))
            if "parameters()" in outer:
                return True
    return any("add_module" in ast.unparse(m) for m in facts.methods.values())


def read_mode_overrides(reading: Reading) -> list[Found]:
    """``train`` or ``eval`` with required extra parameters, or a training loop of that name."""
    found = []
    for name, facts in reading.modules.items():
        for mode in ("train", "eval"):
            method = facts.methods.get(mode)
            if method is None or method.decorator_list:
                continue
            arguments = method.args
            positional = [*arguments.posonlyargs, *arguments.args][1:]
            required = (
                len(positional) - len(arguments.defaults) + sum(d is None for d in arguments.kw_defaults)
            )
            allowed = 1 if mode == "train" else 0
            calls = {
                n.func.attr
                for n in ast.walk(method)
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
            }
            trains = {"backward", "step"} <= calls and not calls & {"train", "eval"} - {"x"}
            if required > allowed or (mode == "train" and not positional and not arguments.vararg) or trains:
                found.append(
                    Found(
                        f"{name} defines its own {mode}(): Module.{mode}() no longer switches modes",
                        reading.place(method),
                        {"count": 1},
                        fix=f"rename {name}.{mode}, for example to fit()",
                        label=f"overrides Module.{mode}",
                    )
                )
                break
    return found


def read_dropout(reading: Reading) -> list[Found]:
    """Dropout in a Module that does not ask ``self.training``."""
    found = []
    for call in reading.calls:
        name = reading.called(call)
        facts = reading.class_of(call)
        if facts is None or facts.node.name not in reading.modules:
            continue
        if name in _DROPOUTS:
            training = keyword(call, "training", 2)
            if training is None:
                found.append(_dropout(reading, call, "functional dropout has no training= argument", None))
            elif isinstance(training, ast.Constant) and training.value is True:
                found.append(
                    _dropout(reading, call, "functional dropout is always on (training=True)", "note")
                )
        elif name == "torch.nn.functional.scaled_dot_product_attention":
            p = keyword(call, "dropout_p", 4)
            plain = isinstance(p, ast.Attribute) and is_name(p.value, "self")
            if plain or (isinstance(p, ast.Constant) and isinstance(p.value, float) and p.value > 0):
                found.append(
                    _dropout(reading, call, "attention dropout is not guarded by self.training", None)
                )
    return found


def _dropout(reading: Reading, call: ast.Call, message: str, severity: str | None) -> Found:
    return Found(
        f"{message}: it stays active after eval()",
        reading.place(call),
        {"count": 1},
        label="active in eval mode",
        severity=severity,  # type: ignore[arg-type]
    )
