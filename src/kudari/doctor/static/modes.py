"""Static judges over modes and graphs: how evaluation runs, and which losses are stored."""

from __future__ import annotations

import ast

from kudari.doctor.finding import Found
from kudari.doctor.static.loops import training_bodies
from kudari.doctor.static.reading import Function, Reading, assignments, is_name, method_call, text

_MODE_LAYERS = ("Dropout", "BatchNorm", "InstanceNorm")
_LOADER_WORDS = ("loader", "batches")
_RELEASES = ("item", "detach", "tolist", "numpy", "cpu")


def _has_mode_layers(reading: Reading) -> bool:
    return any(word in reading.source for word in (*_MODE_LAYERS, "resnet", "dropout="))


def _evaluators(reading: Reading) -> list[tuple[Function, str, ast.For]]:
    """Functions that switch a model to eval mode and call it in a loop: (function, model, loop)."""
    found: list[tuple[Function, str, ast.For]] = []
    if ".eval()" not in reading.source:
        return found
    for function in reading.functions.values():
        evals = [o for n in ast.walk(function) if (o := method_call(n, "eval")) is not None and not n.args]  # type: ignore[attr-defined]
        for owner in evals:
            name = text(owner)
            for loop in (n for n in ast.walk(function) if isinstance(n, ast.For)):
                if any(isinstance(n, ast.Call) and text(n.func) == name for n in ast.walk(loop)):
                    found.append((function, name, loop))
                    break
    return found


def read_grad_enabled_in_eval(reading: Reading) -> list[Found]:
    """A function that evaluates a model over a loader without no_grad on it or on its callers."""
    found = []
    for function, name, loop in _evaluators(reading):
        inside = list(ast.walk(function))
        uses = any(
            isinstance(n, ast.Attribute) and n.attr in ("backward", "requires_grad_", "grad") for n in inside
        )
        call = next(n for n in ast.walk(loop) if isinstance(n, ast.Call) and text(n.func) == name)
        if uses or reading.without_grad(call) or "set_grad_enabled" in reading.source:
            continue
        callers = [
            c for c in reading.calls if (reading.called(c) or text(c.func)).split(".")[-1] == function.name
        ]
        if not callers or any(reading.without_grad(c) for c in callers):
            continue
        if not any(b.of("backward") for b in training_bodies(reading)):
            continue
        found.append(
            Found(
                f"{function.name}() evaluates {name} with gradients on: graphs are built and thrown away",
                reading.place(call),
                {"count": 1},
                label="outside of no_grad",
            )
        )
    return found + _inline_evaluations(reading)


def _inline_evaluations(reading: Reading) -> list[Found]:
    """A loop with gradients on between ``model.eval()`` and ``model.train()`` of one block."""
    found: list[Found] = []
    if ".eval()" not in reading.source or "backward(" not in reading.source:
        return found
    for body in (b for n in reading.nodes for b in (getattr(n, "body", None),) if isinstance(b, list)):
        name = None
        for statement in body:
            call = statement.value if isinstance(statement, ast.Expr) else None
            if call is not None and (owner := method_call(call, "eval", "train")) is not None:
                evaluates = (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and call.func.attr == "eval"
                )
                name = text(owner) if evaluates else None
                trains = evaluates and any(
                    method_call(n, "backward") is not None
                    for o in reading.loops_of(call)
                    for n in ast.walk(o)
                )
                name = name if trains else None
            elif name is not None and isinstance(statement, ast.For):
                model = next(
                    (n for n in ast.walk(statement) if isinstance(n, ast.Call) and text(n.func) == name), None
                )
                uses = any(
                    isinstance(n, ast.Attribute) and n.attr in ("backward", "grad")
                    for n in ast.walk(statement)
                )
                if model is not None and not uses and not reading.without_grad(model):
                    found.append(
                        Found(
                            f"{name} is evaluated with gradients on: graphs are built and thrown away",
                            reading.place(model),
                            {"count": 1},
                            label="outside of no_grad",
                        )
                    )
    return found


def read_eval_mode_while_training(reading: Reading) -> list[Found]:
    """A loop that trains calls a function with ``.eval()``, and nothing in it calls ``.train()``."""
    if not _has_mode_layers(reading) or ".eval()" not in reading.source or "backward(" not in reading.source:
        return []
    found = []
    for function in reading.functions.values():
        modes = [n for n in ast.walk(function) if method_call(n, "eval", "train") is not None]
        if not modes or any(method_call(n, "train") is not None for n in modes):
            continue
        for call in reading.calls:
            if (reading.called(call) or text(call.func)).split(".")[-1] != function.name:
                continue
            loops = reading.loops_of(call)
            if not loops:
                continue
            loop = loops[-1]
            trains = [n for n in ast.walk(loop) if method_call(n, "train") is not None]
            trains += [n for n in ast.walk(loop) if isinstance(n, ast.Call) and _switches(reading, n)]
            if trains or not any(method_call(n, "backward") is not None for n in ast.walk(loop)):
                continue
            found.append(
                Found(
                    f"{function.name}() switches to eval mode inside the training loop, and nothing "
                    "switches back",
                    reading.place(call),
                    {"count": 1},
                    fix="model.train() at the top of the loop",
                    label="leaves the model in eval mode",
                )
            )
            break
    return found


def _switches(reading: Reading, call: ast.Call) -> bool:
    name = (reading.called(call) or text(call.func)).split(".")[-1]
    target = reading.functions.get(name)
    return target is not None and any(method_call(n, "train") is not None for n in ast.walk(target))


def read_retained_graph(reading: Reading) -> list[Found]:
    """A per-batch loss appended to a list, or added to a sum, that outlives the iteration."""
    found = []
    for body in training_bodies(reading):
        losses = {act.who for act in body.of("backward") if act.who.isidentifier()}
        for node in (n for s in body.loop.body for n in ast.walk(s)):
            stored: ast.expr | None = None
            target = ""
            if (
                (owner := method_call(node, "append")) is not None
                and isinstance(node, ast.Call)
                and node.args
            ):
                stored, target = node.args[0], text(owner)
            elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
                stored, target = node.value, text(node.target)
            if stored is None or not _keeps_graph(stored, losses) or target in losses:
                continue
            if any(text(t) == target for s in body.loop.body for n in ast.walk(s) for t, _ in assignments(n)):
                continue  # starts anew in every iteration
            if (
                reading.without_grad(node)
                or f"{target}.backward" in reading.source
                or f"sum({target})" in reading.source
            ):
                continue
            if reading.function_of(node) is not reading.function_of(body.loop):
                continue
            found.append(
                Found(
                    f"the loss is stored in {target} with its graph, in every iteration",
                    reading.place(node),
                    {"count": 1},
                    fix=f"store the number: {text(stored)}.item()" if isinstance(stored, ast.Name) else "",
                    label="keeps the graph alive",
                )
            )
    return found


def _keeps_graph(node: ast.expr, losses: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in losses
    if isinstance(node, ast.BinOp):
        return _keeps_graph(node.left, losses) or _keeps_graph(node.right, losses)
    return False


def read_graph_cut(reading: Reading) -> list[Found]:
    """A loss made anew right before its backward."""
    found: list[Found] = []
    if ".backward(" not in reading.source:
        return found
    for call in reading.calls:
        owner = method_call(call, "backward")
        if owner is None or not isinstance(owner, ast.Name):
            continue
        scope = reading.scope_of(call)
        for node in ast.walk(scope):
            for target, value in assignments(node):
                name = reading.called(value)
                remade = name in (
                    "torch.tensor",
                    "torch.autograd.Variable",
                    "torch.as_tensor",
                ) and isinstance(value, ast.Call)
                if (
                    is_name(target, owner.id)
                    and remade
                    and isinstance(value, ast.Call)
                    and _same(value, owner.id)
                ):
                    found.append(_cut(reading, value, owner.id))
                is_flag = (
                    isinstance(target, ast.Attribute)
                    and target.attr == "requires_grad"
                    and is_name(target.value, owner.id)
                )
                if is_flag and isinstance(value, ast.Constant) and value.value is True:
                    found.append(_cut(reading, node, owner.id))
    return found


def _same(value: ast.Call, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for a in value.args for n in ast.walk(a))


def _cut(reading: Reading, node: ast.AST, name: str) -> Found:
    return Found(
        f"{name} is made anew before its backward: no parameter gets a gradient",
        reading.place(node),
        {"count": 1},
        label="ends the graph",
    )


def read_train_mode_while_evaluating(reading: Reading) -> list[Found]:
    """A no_grad function named like an evaluation, over a loader, and no ``.eval()`` anywhere in the file."""
    if not any(f"{layer}" in reading.source for layer in _MODE_LAYERS):
        return []
    if ".eval()" in reading.source or ".train(" in reading.source or "update_bn" in reading.source:
        return []
    found = []
    for function in reading.functions.values():
        if not any(word in function.name.lower() for word in ("eval", "valid", "test", "accura")):
            continue
        inside = reading.class_of(function)
        if inside is not None and inside.node.name in reading.modules:
            continue
        parameters = {a.arg for a in function.args.args}
        for loop in (n for n in ast.walk(function) if isinstance(n, ast.For)):
            over = any(word in text(loop.iter).lower() for word in _LOADER_WORDS)
            calls = [n for n in ast.walk(loop) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
            names = {"model", "net"} | (parameters & {"m"})
            model = next((c for c in calls if text(c.func) in names), None)
            if over and model is not None and reading.without_grad(model):
                found.append(
                    Found(
                        f"{function.name}() evaluates {text(model.func)} in train mode: nothing calls eval()",
                        reading.place(model),
                        {"count": 1},
                        label="in train mode",
                    )
                )
                break
    return found


def read_host_sync(reading: Reading) -> list[Found]:
    """``.item()`` inside a loop over the samples of a batch, within a training step."""
    found = []
    for body in training_bodies(reading):
        for loop in (n for s in body.loop.body for n in ast.walk(s) if isinstance(n, ast.For)):
            read = next((n for n in ast.walk(loop) if method_call(n, "item", "tolist") is not None), None)
            counted = (reading.called(loop.iter) or "") in ("range", "zip", "enumerate") or isinstance(
                loop.iter, (ast.Name, ast.Subscript)
            )
            if read is not None and counted and reading.function_of(loop) is reading.function_of(body.loop):
                found.append(
                    Found(
                        "values are read back one by one inside the training step",
                        reading.place(read),
                        {"count": 1},
                        label="once per sample",
                    )
                )
                break
    return found


def read_worker_generators(reading: Reading) -> list[Found]:
    """A dataset with its own generator, drawn from in ``__getitem__``, and a loader with several workers."""
    from kudari.doctor.static.reading import DATASET_BASES, keyword

    loaders = [c for c in reading.calls if reading.called(c) == "torch.utils.data.DataLoader"]
    workers = [
        c
        for c in loaders
        if isinstance(n := keyword(c, "num_workers"), ast.Constant)
        and isinstance(n.value, int)
        and n.value > 1
        and keyword(c, "worker_init_fn") is None
    ]
    if not workers or "get_worker_info" in reading.source:
        return []
    makers = (
        "numpy.random.default_rng",
        "numpy.random.RandomState",
        "random.Random",
        "torch.Generator",
        "numpy.random.Generator",
    )
    found = []
    for name, facts in reading.classes.items():
        item = facts.methods.get("__getitem__")
        if item is None or not reading.derives(facts, DATASET_BASES):
            continue
        for attribute, values in facts.attributes.items():
            made = any(
                reading.called(n) in makers for v in values for n in ast.walk(v) if isinstance(n, ast.Call)
            )
            drawn = any(isinstance(n, ast.Attribute) and n.attr == attribute for n in ast.walk(item))
            if made and drawn:
                found.append(
                    Found(
                        f"{name}.{attribute} is copied into every worker: they all draw the same numbers",
                        reading.place(item),
                        {"count": 1},
                        label=f"draws from self.{attribute}",
                    )
                )
    return found


# Methods of every Module that compute nothing.
NO_FORWARD = frozenset((
    "add_module", "apply", "buffers", "children", "compile", "cpu", "cuda", "eval", "float", "half",
    "load_state_dict", "modules", "named_buffers", "named_children", "named_modules", "named_parameters",
    "parameters", "register_buffer", "register_forward_hook", "register_forward_pre_hook",
    "register_full_backward_hook", "requires_grad_", "state_dict", "to", "train", "zero_grad",
))  # fmt: skip


def read_ddp_bypassed(reading: Reading) -> list[Found]:
    """``wrapped.module(...)`` in a training loop, where ``wrapped`` is a DistributedDataParallel."""
    found: list[Found] = []
    if "DistributedDataParallel" not in reading.source or ".module" not in reading.source:
        return found
    for call in reading.calls:
        owner = call.func
        if isinstance(owner, ast.Attribute) and owner.attr != "module":
            owner = owner.value
        if not (isinstance(owner, ast.Attribute) and owner.attr == "module"):
            continue
        made = reading.value_call(owner.value) or ""
        loops = reading.loops_of(call)
        trains = loops and any(method_call(n, "backward") is not None for n in ast.walk(loops[0]))
        plain = isinstance(call.func, ast.Attribute) and call.func.attr in NO_FORWARD
        bypasses = made.endswith("DistributedDataParallel") and trains and not plain
        if bypasses and not reading.without_grad(call):
            found.append(
                Found(
                    "the module inside DistributedDataParallel is called directly: gradients are not "
                    "averaged",
                    reading.place(call),
                    {"count": 1},
                    label="bypasses the wrapper",
                )
            )
    return found
