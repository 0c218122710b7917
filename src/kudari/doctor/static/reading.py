"""One file of source, read once: imports, classes, functions, loops, and who calls what.

Nothing here imports or runs the code it reads, and nothing loads torch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kudari.doctor.finding import Place

MODULE_BASES = (
    "torch.nn.Module",
    "torch.nn.modules.module.Module",
    "lightning.LightningModule",
    "pytorch_lightning.LightningModule",
)
DATASET_BASES = (
    "torch.utils.data.Dataset",
    "torch.utils.data.IterableDataset",
    "torch.utils.data.dataset.Dataset",
)
NO_GRAD = ("torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad")
# Names that torch gives to one thing in several places.
_CANONICAL = (
    ("torch.functional.", "torch.nn.functional."),
    ("torch.nn.modules.", "torch.nn."),
    ("torch.utils.data.dataloader.", "torch.utils.data."),
    ("torch.utils.data.distributed.", "torch.utils.data."),
    ("torch.nn.utils.clip_grad.", "torch.nn.utils."),
    ("torch.cuda.amp.", "torch.amp."),
)

_MARKS = (ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop)
# Nodes with a place of their own; one look-up is faster than two calls of isinstance.
_KEPT = frozenset(
    cls
    for cls in vars(ast).values()
    if isinstance(cls, type) and issubclass(cls, ast.AST) and not issubclass(cls, _MARKS)
)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.NamedExpr)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.While | ast.AsyncFor


@dataclass
class ClassFacts:
    """One class: its bases by full name, its methods, and what its methods put on ``self``."""

    node: ast.ClassDef
    bases: tuple[str, ...]
    methods: dict[str, Function] = field(default_factory=dict)
    attributes: dict[str, list[ast.expr]] = field(default_factory=dict)


class Reading:
    """What one file says.

    Attributes:
        path: shown in places.
        tree: the module.
        aliases: local name to full dotted name, from imports.
        kept: results that several judges share, by name.
    """

    def __init__(self, path: str, source: str) -> None:
        self.path, self.source = path, source
        self.tree = ast.parse(source)
        self.aliases: dict[str, str] = {}
        self.parents: dict[ast.AST, ast.AST] = {}
        self.nodes: list[ast.AST] = []
        self._names: dict[ast.AST, str | None] = {}
        self.kept: dict[str, Any] = {}
        self._index()

    def _index(self) -> None:
        queue, parents = self.nodes, self.parents
        queue.append(self.tree)
        for node in queue:
            # Operators and contexts are shared objects without a place of their own.
            for field_name in node._fields:
                value = getattr(node, field_name, None)
                if value.__class__ is list:
                    for child in value:
                        if child.__class__ in _KEPT:
                            parents[child] = node
                            queue.append(child)
                elif value.__class__ in _KEPT:
                    parents[value] = node
                    queue.append(value)
            if isinstance(node, ast.Import):
                for name in node.names:
                    head = name.name.split(".")[0]
                    self.aliases[name.asname or head] = name.name if name.asname else head
            elif isinstance(node, ast.ImportFrom):
                origin = "." * node.level + (f"{node.module}." if node.module else "")
                for name in node.names:
                    self.aliases[name.asname or name.name] = origin + name.name

    # -- names ------------------------------------------------------------------------------------

    def dotted(self, node: ast.AST | None) -> str | None:
        """Full dotted name of a name or attribute, through import aliases; None for other expressions."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        name = ".".join([self.aliases.get(node.id, node.id), *reversed(parts)])
        for old, new in _CANONICAL:
            if name.startswith(old):
                return new + name[len(old) :].split(".")[-1]
        return name

    def called(self, node: ast.AST | None) -> str | None:
        """Full name of what a call calls; None where the node is no call or the name cannot be resolved."""
        if not isinstance(node, ast.Call):
            return None
        if node not in self._names:
            self._names[node] = self.dotted(node.func)
        return self._names[node]

    def place(self, node: ast.AST) -> Place:
        """Where a node stands."""
        line: int = getattr(node, "lineno", 1)
        column: int = getattr(node, "col_offset", 0)
        end: int | None = getattr(node, "end_col_offset", None)
        same = getattr(node, "end_lineno", line) == line
        return Place(self.path, line, column, end if same else None)

    # -- structure --------------------------------------------------------------------------------

    def up(self, node: ast.AST) -> Iterator[ast.AST]:
        """The ancestors of a node, nearest first."""
        current = self.parents.get(node)
        while current is not None:
            yield current
            current = self.parents.get(current)

    def function_of(self, node: ast.AST) -> Function | None:
        """The function a node stands in."""
        return next(
            (n for n in self.up(node) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))), None
        )

    def class_of(self, node: ast.AST) -> ClassFacts | None:
        """The class a node stands in."""
        found = next((n for n in self.up(node) if isinstance(n, ast.ClassDef)), None)
        return self.classes.get(found.name) if found is not None else None

    def loops_of(self, node: ast.AST) -> list[Loop]:
        """The loops around a node inside its function, innermost first."""
        loops: list[Loop] = []
        for ancestor in self.up(node):
            if isinstance(ancestor, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                break
            if isinstance(ancestor, (ast.For, ast.While, ast.AsyncFor)):
                loops.append(ancestor)
        return loops

    def scope_of(self, node: ast.AST) -> ast.AST:
        """The function or module whose names a node sees first."""
        return self.function_of(node) or self.tree

    @cached_property
    def calls(self) -> list[ast.Call]:
        """Every call of the file, in the order of the text."""
        found = [n for n in self.nodes if isinstance(n, ast.Call)]
        return sorted(found, key=lambda n: (n.lineno, n.col_offset))

    @cached_property
    def functions(self) -> dict[str, Function]:
        """Functions and methods by name; a name defined twice is left out."""
        found: dict[str, Function] = {}
        twice: set[str] = set()
        for node in self.nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                twice |= {node.name} & found.keys()
                found[node.name] = node
        return {name: node for name, node in found.items() if name not in twice}

    @cached_property
    def classes(self) -> dict[str, ClassFacts]:
        """Classes by name."""
        found: dict[str, ClassFacts] = {}
        for node in self.nodes:
            if not isinstance(node, ast.ClassDef):
                continue
            bases = tuple(name for base in node.bases if (name := self.dotted(base)))
            facts = ClassFacts(node, bases)
            for item in node.body:
                if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    facts.methods[item.name] = item
            found[node.name] = facts
        if found:
            self._read_attributes(found)
        return found

    def _read_attributes(self, classes: dict[str, ClassFacts]) -> None:
        methods = {item: facts for facts in classes.values() for item in facts.methods.values()}
        for node in self.assigned:
            for target, value in assignments(node):
                if isinstance(target, ast.Attribute) and is_name(target.value, "self"):
                    owners = (methods[n] for n in self.up(node) if isinstance(n, Function) and n in methods)
                    for facts in owners:
                        facts.attributes.setdefault(target.attr, []).append(value)

    @cached_property
    def assigned(self) -> list[ast.AST]:
        """Every assignment of the file."""
        return [n for n in self.nodes if isinstance(n, _ASSIGNMENTS)]

    def derives(self, facts: ClassFacts, bases: tuple[str, ...], depth: int = 6) -> bool:
        """True when a class derives from one of ``bases``, through classes of this file."""
        for base in facts.bases:
            if base in bases:
                return True
            known = self.classes.get(base)
            if known is not None and known is not facts and depth and self.derives(known, bases, depth - 1):
                return True
        return False

    @cached_property
    def modules(self) -> dict[str, ClassFacts]:
        """Classes that derive from torch's Module."""
        return {name: facts for name, facts in self.classes.items() if self.derives(facts, MODULE_BASES)}

    # -- values -----------------------------------------------------------------------------------

    @cached_property
    def bindings(self) -> dict[tuple[ast.AST, str], list[ast.expr]]:
        """Values bound to plain names, by scope and name."""
        found: dict[tuple[ast.AST, str], list[ast.expr]] = {}
        for node in self.assigned:
            for target, value in assignments(node):
                if isinstance(target, ast.Name):
                    found.setdefault((self.scope_of(node), target.id), []).append(value)
        return found

    def values(self, node: ast.AST) -> list[ast.expr]:
        """What a name, or an attribute of ``self``, may be bound to; empty when nothing in this file says."""
        if isinstance(node, ast.Name):
            scope: ast.AST | None = self.scope_of(node)
            while scope is not None:
                if (scope, node.id) in self.bindings:
                    return self.bindings[scope, node.id]
                scope = None if isinstance(scope, ast.Module) else self.scope_of(scope)
            return []
        if isinstance(node, ast.Attribute) and is_name(node.value, "self"):
            facts = self.class_of(node)
            return facts.attributes.get(node.attr, []) if facts else []
        return []

    def value_call(self, node: ast.AST) -> str | None:
        """Full name of the one call that made what a name or attribute holds."""
        values = self.values(node)
        names = {self.called(value) for value in values}
        return names.pop() if len(names) == 1 else None

    def without_grad(self, node: ast.AST) -> bool:
        """True when a node runs under no_grad or inference_mode, by a block or a decorator around it."""
        for ancestor in self.up(node):
            if isinstance(ancestor, (ast.With, ast.AsyncWith)):
                names = [self.called(i.context_expr) or self.dotted(i.context_expr) for i in ancestor.items]
                if any(name in NO_GRAD for name in names):
                    return True
                if any(name == "torch.set_grad_enabled" for name in names):
                    return True
            if isinstance(ancestor, (ast.FunctionDef, ast.AsyncFunctionDef)) and any(
                (self.called(d) or self.dotted(d)) in NO_GRAD for d in ancestor.decorator_list
            ):
                return True
        return False


def assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Pairs of target and value of an assignment; tuples of equal length are taken apart."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, (ast.Tuple, ast.List)) and isinstance(node.value, (ast.Tuple, ast.List)):
                if len(target.elts) == len(node.value.elts):
                    yield from zip(target.elts, node.value.elts, strict=True)
            else:
                yield target, node.value
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        yield node.target, node.value


def is_name(node: ast.AST | None, name: str) -> bool:
    """True for a plain name."""
    return isinstance(node, ast.Name) and node.id == name


def method_call(node: ast.AST, *names: str) -> ast.expr | None:
    """The object of a method call ``object.name(...)``; None for anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names:
        return node.func.value
    return None


def keyword(call: ast.Call, name: str, position: int | None = None) -> ast.expr | None:
    """An argument of a call by name, or by position."""
    found = next((k.value for k in call.keywords if k.arg == name), None)
    if found is None and position is not None and len(call.args) > position:
        return call.args[position]
    return found


def text(node: ast.AST) -> str:
    """Normalised source of a node, for comparing names."""
    return ast.unparse(node)
