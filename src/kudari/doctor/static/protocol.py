"""Static judges over the order of acts in training loops."""

from __future__ import annotations

import ast

from kudari.doctor.finding import Found
from kudari.doctor.static.loops import Body, infinite, is_counter_test, training_bodies, wipes_elsewhere
from kudari.doctor.static.reading import Reading, assignments, is_name, keyword, method_call, text

_STATEFUL = (
    "Adam",
    "AdamW",
    "NAdam",
    "RAdam",
    "Adamax",
    "Adadelta",
    "Adagrad",
    "RMSprop",
    "Rprop",
    "Adafactor",
    "Muon",
)


def read_missing_zero_grad(reading: Reading) -> list[Found]:
    """A loop with backward and step and no wipe in it."""
    found = []
    for body in training_bodies(reading):
        if body.of("wipe") or body.opaque or wipes_elsewhere(reading):
            continue
        steps = body.of("step") or body.of("scaler_step")
        if any(act.node.args or act.node.keywords for act in body.of("step")):
            continue  # a closure
        if any(
            isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and "zero_grad" in n.func.attr
            for n in ast.walk(body.loop)
        ):
            continue
        found.append(
            Found(
                "the loop runs backward and step, and nothing wipes the gradients between two steps",
                reading.place(steps[0].node),
                {"count": 1},
                fix=f"{steps[0].who}.zero_grad() before the backward",
                label="steps with the gradients of all iterations",
            )
        )
    return found


def read_zero_grad_breaks_accumulation(reading: Reading) -> list[Found]:
    """Wipe and backward in every iteration, step only in every k-th."""
    found = []
    for body in training_bodies(reading):
        steps, wipes, backwards = body.of("step"), body.of("wipe"), body.of("backward")
        one = len({act.who for act in steps}) == 1 and len({act.who for act in wipes}) == 1
        if not one or body.opaque or any(a.condition is not None for a in (*wipes, *backwards)):
            continue
        if all(is_counter_test(act.condition) for act in steps):
            found.append(
                Found(
                    "gradients are wiped in every iteration and used only in every k-th: the others are lost",
                    reading.place(wipes[0].node),
                    {"count": 1},
                    label="wipes before the step",
                )
            )
    return found


def read_optimizer_rebuilt(reading: Reading) -> list[Found]:
    """A stateful optimizer built inside the loop that steps it."""
    found = []
    for body in training_bodies(reading):
        for node in (n for s in body.loop.body for n in ast.walk(s)):
            for target, value in assignments(node):
                name = reading.called(value) or ""
                if not name.startswith("torch.optim.") or name.split(".")[-1] not in _STATEFUL:
                    continue
                if not any(act.who == text(target) for act in body.of("step")):
                    continue
                inside = {text(t) for s in body.loop.body for n in ast.walk(s) for t, _ in assignments(n)}
                used = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                if used & inside - {text(target)}:
                    continue
                loop_names = (
                    {n.id for n in ast.walk(body.loop.target) if isinstance(n, ast.Name)}
                    if isinstance(body.loop, ast.For)
                    else set()
                )
                if used & loop_names:
                    continue
                found.append(
                    Found(
                        f"{name.split('.')[-1]} is built inside the loop that steps it: its averages "
                        "start from zero each time",
                        reading.place(value),
                        {"count": 1},
                        label="built in every iteration",
                    )
                )
    return found


def read_scheduler_never_stepped(reading: Reading) -> list[Found]:
    """A scheduler bound to a name that is used nowhere else."""
    found: list[Found] = []
    if "lr_scheduler" not in reading.source:
        return found
    for (scope, name), values in reading.bindings.items():
        made = [v for v in values if (reading.called(v) or "").startswith("torch.optim.lr_scheduler.")]
        if not made or len(made) != len(values):
            continue
        uses = [
            n
            for n in ast.walk(scope)
            if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)
        ]
        harmless = {"get_last_lr", "state_dict", "last_epoch", "get_lr"}
        if all(isinstance(p := reading.parents.get(u), ast.Attribute) and p.attr in harmless for u in uses):
            kind = (reading.called(made[0]) or "").split(".")[-1]
            found.append(
                Found(
                    f"{kind} is built and never stepped: the rate does not change",
                    reading.place(made[0]),
                    {"count": 1},
                    label="never stepped",
                )
            )
    return found


def read_scheduler_before_optimizer(reading: Reading) -> list[Found]:
    """In one loop nest the scheduler's step comes before the first optimizer step."""
    found = []
    for body in training_bodies(reading):
        outer = [body.loop, *reading.loops_of(body.loop)]
        steps = body.of("step") or body.of("scaler_step")
        first = min(act.node.lineno for act in steps)
        if any(reading.function_of(act.node) is not reading.function_of(body.loop) for act in steps):
            continue
        for loop in outer:
            for statement in loop.body:
                node = statement.value if isinstance(statement, ast.Expr) else None
                owner = method_call(node, "step") if node is not None else None
                if owner is None or node is None or node.lineno >= first:
                    continue
                made = reading.value_call(owner) or ""
                if not made.startswith("torch.optim.lr_scheduler.") or made.endswith("ReduceLROnPlateau"):
                    continue
                found.append(
                    Found(
                        f"{made.split('.')[-1]} steps before the optimizer does: the first rate is "
                        "never used",
                        reading.place(node),
                        {"count": 1},
                        label="comes before optimizer.step()",
                    )
                )
    return found


def _straight(body: Body) -> bool:
    return not body.opaque and all(act.condition is None for act in body.acts if act.kind != "scheduler")


def _order(body: Body) -> list[str]:
    return [act.kind for act in body.acts]


def read_clip_after_step(reading: Reading) -> list[Found]:
    """backward, step, clip in a straight body."""
    return _misplaced_clip(reading, after_step=True)


def read_clip_before_backward(reading: Reading) -> list[Found]:
    """clip, backward, step in a straight body."""
    return _misplaced_clip(reading, after_step=False)


def _misplaced_clip(reading: Reading, *, after_step: bool) -> list[Found]:
    found = []
    for body in training_bodies(reading):
        clips = [act for act in body.of("clip") if not infinite(act.node)]
        order = _order(body)
        if not clips or not _straight(body) or order.count("backward") != 1:
            continue
        steps = [i for i, kind in enumerate(order) if kind in ("step", "scaler_step")]
        backward, step = order.index("backward"), steps[0]
        spots = [i for i, act in enumerate(body.acts) if act in clips]
        if len(steps) != 1 or backward > step or any(backward < i < step for i in spots):
            continue
        after = all(i > step for i in spots) and "wipe" not in order[step : spots[0]]
        before = all(i < backward for i in spots) or (
            all(i > step for i in spots) and "wipe" in order[step : spots[0]]
        )
        if (after_step and after) or (not after_step and before):
            when = "after the step has used them" if after_step else "before backward has made them"
            found.append(
                Found(
                    f"gradients are clipped {when}: the clip has no effect",
                    reading.place(clips[0].node),
                    {"count": 1},
                    label="has no effect here",
                )
            )
    return found


def read_clip_before_unscale(reading: Reading) -> list[Found]:
    """A clip between the scaled backward and scaler.step, without unscale_ before it."""
    found = []
    for body in training_bodies(reading):
        scaled = [a for a in body.of("backward") if ".scale(" in a.who]
        clips = [act for act in body.of("clip") if not infinite(act.node)]
        if not scaled or not clips or not body.of("scaler_step") or body.opaque:
            continue
        order = list(body.acts)
        first_clip = order.index(clips[0])
        if first_clip < order.index(scaled[0]) or any(a.kind == "unscale" for a in order[:first_clip]):
            continue
        owner = body.of("scaler_step")[0].node.func
        made = reading.values(owner.value) if isinstance(owner, ast.Attribute) else []
        enabled = [keyword(v, "enabled") for v in made if isinstance(v, ast.Call)]
        if any(e is not None and not (isinstance(e, ast.Constant) and e.value is True) for e in enabled):
            continue
        limit = keyword(clips[0].node, "max_norm", 1)
        if limit is None or not isinstance(limit, (ast.Constant, ast.Name, ast.Attribute)):
            continue
        if isinstance(limit, ast.Constant) and isinstance(limit.value, (int, float)) and limit.value >= 100:
            continue
        found.append(
            Found(
                "gradients are clipped while they are still multiplied by the loss scale",
                reading.place(clips[0].node),
                {"count": 1},
                label="comes before scaler.unscale_",
            )
        )
    return found


def read_accumulation_not_averaged(reading: Reading) -> list[Found]:
    """step under ``i % k``, a mean loss, and no division before backward."""
    found = []
    for body in training_bodies(reading):
        steps, backwards = body.of("step"), body.of("backward")
        if len(steps) != 1 or len(backwards) != 1 or not is_counter_test(steps[0].condition) or body.opaque:
            continue
        if backwards[0].condition is not None or any(a.condition is None for a in body.of("wipe")):
            continue
        source = "\n".join(text(s) for s in body.loop.body)
        if "reduction" in reading.source or "accelerator" in reading.source or "/" in _without_prints(body):
            continue
        if not _is_mean_loss(reading, backwards[0].who, body, source):
            continue
        found.append(
            Found(
                "mean losses of several micro-batches are added up and not divided by their number",
                reading.place(backwards[0].node),
                {"count": 1},
                label="without a division by the number of micro-batches",
                severity="note" if "Adam" in (reading.value_call(steps[0].node.func.value) or "") else None,  # type: ignore[attr-defined]
            )
        )
    return found


def _without_prints(body: Body) -> str:
    return "\n".join(text(s) for s in body.loop.body if "print(" not in text(s) and "+=" not in text(s))


def _is_mean_loss(reading: Reading, who: str, body: Body, source: str) -> bool:
    for node in (n for s in body.loop.body for n in ast.walk(s)):
        for target, value in assignments(node):
            if text(target) == who and isinstance(value, ast.Call):
                name = reading.called(value) or ""
                made = reading.value_call(value.func) or ""
                if name.startswith("torch.nn.functional.") and ("loss" in name or "entropy" in name):
                    return True
                if made.startswith("torch.nn.") and made.endswith("Loss"):
                    return True
    return False


def read_missing_set_epoch(reading: Reading) -> list[Found]:
    """A shuffling DistributedSampler whose loader is iterated in an epoch loop without set_epoch."""
    if "set_epoch" in reading.source or "DistributedSampler" not in reading.source:
        return []
    found = []
    for call in reading.calls:
        if reading.called(call) != "torch.utils.data.DistributedSampler":
            continue
        shuffle = keyword(call, "shuffle", 3)
        if shuffle is not None and not (isinstance(shuffle, ast.Constant) and shuffle.value is True):
            continue
        holder = reading.parents.get(call)
        names = (
            [t.id for t, v in assignments(holder) if v is call and isinstance(t, ast.Name)] if holder else []
        )
        loaders = [
            text(t)
            for n in reading.nodes
            for t, v in assignments(n)
            if isinstance(v, ast.Call)
            and reading.called(v) == "torch.utils.data.DataLoader"
            and (s := keyword(v, "sampler")) is not None
            and (s is call or any(is_name(s, name) for name in names))
        ]
        nested = any(
            isinstance(n, ast.For)
            and any(text(n.iter) in (name, f"enumerate({name})") for name in loaders)
            and reading.loops_of(n)
            for n in reading.nodes
        )
        if nested:
            found.append(
                Found(
                    "a shuffling DistributedSampler never gets set_epoch: every epoch has the same order",
                    reading.place(call),
                    {"count": 1},
                    label="epoch stays 0",
                )
            )
    return found
