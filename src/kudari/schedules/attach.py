"""The torch face: a real ``LRScheduler`` whose whole state is the step."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kudari.errors import ArgumentError, did_you_mean
from kudari.schedules.bound import Bound
from kudari.schedules.curves.constant import constant
from kudari.schedules.length import RunSize
from kudari.schedules.schedule import Schedule
from kudari.schedules.stepwatch import StepWatch

Group = dict[str, Any]
_ONE = constant()
_KEY = re.compile(r"(\w+)(?:\[(\d+)\])?")
_FORMS = {
    "also": "Write also={'weight_decay': linear(0, 1)}.",
    "groups": "Write groups={'head': constant(0.1)}.",
}


@dataclass(frozen=True)
class Target:
    """A hyper-parameter in a parameter group: ``lr``, or an element such as ``betas[0]``.

    Attributes:
        key: its key in the group.
        index: which element, if the value is a tuple.
        base_key: where the group keeps the value that the factor multiplies.
    """

    key: str
    index: int | None
    base_key: str

    @staticmethod
    def read(text: str) -> Target:
        """Read ``name`` or ``name[index]``."""
        match = _KEY.fullmatch(text)
        if match is None:
            raise ArgumentError(f"{text!r} does not name a hyper-parameter.", fix="Write 'betas[0]' or 'lr'.")
        return Target(match[1], None if match[2] is None else int(match[2]), f"initial_{match[1]}")

    def __str__(self) -> str:
        return self.key if self.index is None else f"{self.key}[{self.index}]"

    def write(self, group: Group, factor: float) -> None:
        """Set the hyper-parameter to its base value times the factor."""
        if self.base_key not in group:
            group[self.base_key] = _copy(group[self.key])
        base = group[self.base_key]
        if self.index is not None:
            present = list(group[self.key])
            present[self.index] = base[self.index] * factor
            group[self.key] = tuple(present)
        elif isinstance(group[self.key], Tensor):
            # In place and without reading the value back: a captured CUDA graph sees the new number.
            with torch.no_grad():
                group[self.key].copy_(base * factor)
        else:
            group[self.key] = (base.item() if isinstance(base, Tensor) else base) * factor


class ScheduleLR(LRScheduler):
    """Sets the hyper-parameters of an optimizer from schedules; made by :meth:`Schedule.attach`.

    The constructor writes the values of the first step; it counts no step and replaces no method. ``step()``
    after an ``optimizer.step()`` that did not happen (gradients with infinities under a GradScaler) does not
    advance, and one optimizer step is one step however often a wrapper calls ``step()`` after it. To resume
    is to set the step: ``load_state_dict``, ``set_step`` or ``start_step=``.

    Attributes:
        last_epoch: the optimizer step whose values are set, from 0 (torch's name for it).
        total_steps: optimizer steps of the run; missing if not known, as in torch's schedulers.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule,
        run: RunSize,
        *,
        start_step: int = 0,
        groups: Mapping[int | str, Schedule] | None = None,
        also: Mapping[str, Schedule] | None = None,
        independent_decay: bool = False,
    ) -> None:
        if not hasattr(optimizer, "param_groups"):  # wrappers of optimizers have them too
            raise ArgumentError(
                f"{type(optimizer).__name__} is no optimizer: it has no parameter groups.",
                fix="Pass the optimizer whose learning rate is to follow the schedule.",
            )
        # torch's constructor is left out on purpose: it replaces optimizer.step and takes a step.
        self.optimizer = optimizer
        self.schedule = schedule
        if run.total_steps is not None:
            self.total_steps = run.total_steps
        self._bound: dict[Target, Bound] = {Target.read("lr"): schedule.bind_run(run)}
        for name, other in _schedules("also", also).items():
            target = Target.read(name)
            if target in self._bound:
                raise ArgumentError(f"{name} is scheduled twice.")
            self._bound[target] = other.bind_run(run)
        self._group_bound = {k: factor.bind_run(run) for k, factor in _schedules("groups", groups).items()}
        self._independent_decay = independent_decay
        if independent_decay:
            self._bound.setdefault(Target.read("weight_decay"), _ONE.bind_run(run))
        self._known_groups = 0
        self._check_names()
        self._hook()
        self.last_epoch = start_step
        self.set_step(start_step)

    # --- torch's interface

    def step(self, epoch: int | None = None) -> None:
        """Go on to the next optimizer step; with ``epoch``, to that step.

        Call it after ``optimizer.step()``. If that step was skipped, nothing changes.

        Raises:
            ArgumentError: ``epoch`` is no whole number, such as the metric that torch's plateau takes here.
        """
        if epoch is not None:
            self.set_step(_whole(epoch))
        elif self._watch.advanced():
            self.set_step(self.last_epoch + 1)

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of every parameter group at the present step."""
        return self.get_last_lr()

    def get_last_lr(self) -> list[float | Tensor]:
        """The learning rate of every parameter group; tensors are copies."""
        return [_copy(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and texts: the step, and the schedule for people who read checkpoints."""
        state: dict[str, Any] = {
            "last_epoch": self.last_epoch,
            "_last_lr": [float(lr) for lr in self.get_last_lr()],
            "schedule": str(self.schedule),
        }
        reacting = {name: bound.state_dict() for name, bound in self._reacting()}
        return state | ({"reacting": reacting} if reacting else {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the step and the values that belong to it; the state of a torch scheduler will do.

        The schedule itself is the one given to ``attach``: a run may go on with another one.
        """
        if "last_epoch" not in state_dict:
            raise ArgumentError("The scheduler's state has no 'last_epoch', the step to go on from.")
        for name, bound in self._reacting():
            bound.load_state_dict(state_dict.get("reacting", {}).get(name, {}))
        self.set_step(int(state_dict["last_epoch"]))

    def __getstate__(self) -> dict[str, Any]:
        # Hooks are of this optimizer in this process.
        return {key: value for key, value in vars(self).items() if key != "_watch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy of the scheduler has a copy of the optimizer, whose hooks torch leaves behind.
        self.__dict__.update(state)
        self._hook()

    def _update_lr(self, epoch: int | None = None) -> None:
        # SequentialLR begins a scheduler at its milestone this way.
        self.set_step(self.last_epoch + 1 if epoch is None else epoch)

    def _initial_step(self) -> None:
        # SequentialLR takes schedulers one step back and asks them to begin again.
        self.set_step(self.last_epoch + 1)

    # --- ours

    def report(self, metric: float) -> bool:
        """Tell every plateau a metric, such as the validation loss; returns whether a factor fell.

        Raises:
            ArgumentError: if no schedule has a plateau.
        """
        reacting = [bound for _, bound in self._reacting()] or [self._bound[Target.read("lr")]]
        fell = [bound.report(metric) for bound in reacting]
        self.set_step(self.last_epoch)
        return any(fell)

    def _reacting(self) -> list[tuple[str, Bound]]:
        """The schedules that have a plateau, by a name that stays the same between runs."""
        own = [(str(target), bound) for target, bound in self._bound.items()]
        by_group = [(f"group {key}", bound) for key, bound in self._group_bound.items()]
        return [(name, bound) for name, bound in (*own, *by_group) if bound.plateau is not None]

    def set_step(self, step: int) -> None:
        """Set every hyper-parameter to its value at an optimizer step, which counts from 0."""
        values = [(target, bound(step)) for target, bound in self._bound.items()]
        self.last_epoch = step
        # Accelerate stops stepping when this count passes total_steps.
        self._step_count = step + 1
        self._known_groups = len(self.optimizer.param_groups)
        for index, group in enumerate(self.optimizer.param_groups):
            own = self._group_factor(index, group, step) if self._group_bound else 1.0
            for target, factor in values:
                if target.key == "lr":
                    target.write(group, factor * own)
                elif target.key == "weight_decay" and self._independent_decay:
                    lr_factor = values[0][1] * own
                    target.write(group, factor / lr_factor if lr_factor > 0 else 0.0)
                elif target.key in group:
                    target.write(group, factor)

    @property
    def base_lrs(self) -> list[float | Tensor]:
        """The peak learning rate of every parameter group."""
        return [group["initial_lr"] for group in self.optimizer.param_groups]

    @base_lrs.setter
    def base_lrs(self, values: list[float | Tensor]) -> None:
        for group, value in zip(self.optimizer.param_groups, values, strict=True):
            group["initial_lr"] = value

    @property
    def _last_lr(self) -> list[float | Tensor]:  # type: ignore[override]  # torch keeps a second copy
        return self.get_last_lr()

    def _hook(self) -> None:
        self._watch = StepWatch(self.optimizer)
        # The optimizer must not keep a scheduler alive that nobody uses any more.
        self.optimizer.register_step_pre_hook(_before_step(weakref.ref(self)))

    def _group_factor(self, index: int, group: Group, step: int) -> float:
        factor = 1.0
        for key in (index, group.get("name")):
            if key in self._group_bound:
                factor *= self._group_bound[key](step)
        return factor

    def _check_names(self) -> None:
        groups = self.optimizer.param_groups
        known = sorted({key for group in groups for key in group if key != "params"})
        for target in self._bound:
            if target.key not in known:
                raise ArgumentError(
                    f"The optimizer has no hyper-parameter {target.key!r}.{did_you_mean(target.key, known)}",
                    fix=f"It has: {', '.join(known)}.",
                )
            for group in groups:
                _check_element(target, group.get(target.key))
        named = [str(group["name"]) for group in groups if "name" in group]
        for key in self._group_bound:
            if key not in named and not (isinstance(key, int) and 0 <= key < len(groups)):
                raise ArgumentError(
                    f"There is no parameter group {key!r}.{did_you_mean(str(key), named)}",
                    fix=f"There are {len(groups)} groups; names: {', '.join(named) or 'none'}.",
                )


def _whole(step: object) -> int:
    if isinstance(step, bool) or not isinstance(step, Integral):
        raise ArgumentError(
            f"step({step!r}): that is no optimizer step to go to, a whole number of 0 or more.",
            fix="Call step() after optimizer.step(); a metric for a plateau goes to report(metric).",
        )
    return int(step)


def _schedules(name: str, given: Mapping[Any, Schedule] | None) -> Mapping[Any, Schedule]:
    """Refuse what is no table of schedules, such as the value a hyper-parameter should have."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{name}={given!r} is no dictionary.", fix=_FORMS[name])
    for key, value in given.items():
        if not isinstance(value, Schedule):
            raise ArgumentError(
                f"{name}: {key!r} is given {value!r}, which is no schedule.",
                why="A schedule's factor multiplies the value that the group has.",
                fix=_FORMS[name],
            )
    return given


def _check_element(target: Target, value: Any) -> None:
    """Refuse an element that is not there, and several numbers where one is scheduled."""
    several = isinstance(value, tuple | list)
    if target.index is None and several:
        raise ArgumentError(
            f"{target.key} is {len(value)} numbers, and a schedule gives one.",
            fix=f"Name which: '{target.key}[0]'.",
        )
    if target.index is not None and value is not None and target.index >= (len(value) if several else 0):
        raise ArgumentError(f"{target.key} has no element {target.index}.")


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _before_step(scheduler: weakref.ref[ScheduleLR]) -> Callable[..., None]:
    def adopt(optimizer: Optimizer, args: object, kwargs: object) -> None:
        found = scheduler()
        # A group added since the last step must not take this one with its peak values.
        if found is not None and found.last_epoch >= 0 and len(optimizer.param_groups) != found._known_groups:
            found.set_step(found.last_epoch)

    return adopt
