"""The optimizer and the learning rate of every step, from names or from the user's own objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kudari import optim, schedules
from kudari.errors import ArgumentError, UnsupportedError
from kudari.optim.hypers import COMMON
from kudari.record import Decayed
from kudari.schedules.bound import Bound

OptimizerSpec = str | Optimizer | Callable[[Any], Optimizer]
ScheduleSpec = Any


def build_optimizer(
    spec: OptimizerSpec, model: nn.Module, lr: float | None, weight_decay: float | None
) -> Optimizer:
    """Return the optimizer of a run.

    Args:
        spec: a name of :func:`kudari.optim.names`; an optimizer class, called as ``cls(params, lr=,
            weight_decay=)``; an Optimizer or a function of the parameters, both taken as they are.
        model: on its device already.
        lr: peak learning rate; None takes the optimizer's default.
        weight_decay: for names, kept off biases and norm parameters; None takes the optimizer's default.

    By name, Muon is given the matrices of hidden layers; embeddings, head and vectors take AdamW's step.

    Raises:
        ArgumentError: where the model has nothing to train, the optimizer trains another model, or ``lr`` or
            ``weight_decay`` would have no effect.
        UnsupportedError: where the optimizer needs a closure.
    """
    params = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise ArgumentError(
            f"{type(model).__name__} has no trainable parameters.",
            fix="Add layers, or set requires_grad=True on what should be trained.",
        )
    given = {k: v for k, v in (("lr", lr), ("weight_decay", weight_decay)) if v is not None}
    if isinstance(spec, str):
        optimizer = _by_name(spec, model, given)
    elif isinstance(spec, type):
        optimizer = _made(spec, params, given)
    else:
        if given:
            raise ArgumentError(
                f"{' and '.join(given)} would have no effect on the optimizer passed.",
                fix="Set it where the optimizer is made, or pass optimizer as a name or a class.",
            )
        optimizer = spec(params) if callable(spec) else spec
    _check_optimizer(optimizer, params)
    return optimizer


def _by_name(name: str, model: nn.Module, given: Mapping[str, float]) -> Optimizer:
    cls: Any = optim.get(name)
    known = inspect.signature(cls).parameters
    if "weight_decay" not in known:
        return _made(cls, [(n, p) for n, p in model.named_parameters() if p.requires_grad], given)
    decay = given.get("weight_decay", known["weight_decay"].default)
    return _made(cls, optim.groups(model, weight_decay=decay, muon="use_muon" in known), given)


def _made(cls: Any, params: Any, given: Mapping[str, float]) -> Optimizer:
    made: Optimizer = cls(params, **given)
    return made


def _check_optimizer(optimizer: Any, params: list[nn.Parameter]) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"optimizer gave a {type(optimizer).__name__}.",
            fix="Pass a name, a torch.optim.Optimizer, or a function of the parameters that returns one.",
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise UnsupportedError(
            "LBFGS evaluates the loss several times a step, which fit cannot.", fix="Use AdamW."
        )
    known = {id(p) for p in params}
    held = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    strangers = sum(id(p) not in known for p in held)
    if strangers:
        raise ArgumentError(
            f"{strangers} of the {len(held)} parameters of the optimizer do not belong to the model.",
            why="They would never get a gradient, and the model's own would never change.",
            fix="Make the optimizer from the parameters of this very model.",
        )


def describe_optimizer(optimizer: Optimizer) -> str:
    """Return one line, such as ``AdamW(lr=0.001, betas=(0.9, 0.999), weight_decay=0.01)``.

    Values are those it was made with; weight decay is the largest of its groups.
    """
    usual = {**COMMON, **dict(optimizer.rule.fixed)} if isinstance(optimizer, optim.RuleOptimizer) else {}
    values = dict(optimizer.defaults)
    if "weight_decay" in values:
        values["weight_decay"] = max(group["weight_decay"] for group in optimizer.param_groups)
    named = {
        k: v
        for k, v in values.items()
        if v is not None and v is not False and v != 0 and not (k in usual and v == usual[k])
    }
    return f"{type(optimizer).__name__}({', '.join(f'{k}={_plain(v)}' for k, v in named.items())})"


def _plain(value: Any) -> str:
    return f"{value.item():g}" if isinstance(value, Tensor) and value.numel() == 1 else repr(value)


def decay_of(model: nn.Module, optimizer: Optimizer) -> tuple[Decayed, ...]:
    """Return every parameter with the weight decay that reaches it, and why."""
    decay_by_id = {
        id(p): float(group.get("weight_decay") or 0.0)
        for group in optimizer.param_groups
        for p in group["params"]
    }
    kinds = {a.name: a.why for a in optim.assign(model)}
    rows = []
    for name, p in model.named_parameters():
        trained = id(p) in decay_by_id and p.requires_grad
        why = kinds.get(name, "not trained") if trained else "not trained"
        rows.append(Decayed(name, tuple(p.shape), decay_by_id.get(id(p), 0.0), why))
    return tuple(rows)


def formula_of(optimizer: Optimizer) -> str:
    """Return the LaTeX of the update rule, empty for optimizers that have no rule."""
    if not isinstance(optimizer, optim.RuleOptimizer):
        return ""
    return optim.describe(optimizer.rule, optimizer.defaults).formula


class Rate(Protocol):
    """Writes the learning rate of each step into the optimizer."""

    @property
    def reacts(self) -> bool:
        """Whether it waits for validation losses."""
        ...

    def write(self, step: int) -> None:
        """Set the rate for the step with this number, counted from 0."""
        ...

    def observe(self, valid_loss: float) -> None:
        """Take note of a validation loss."""
        ...

    def state(self) -> Any:
        """What a checkpoint has to keep, None where the step alone says it all."""
        ...

    def load(self, state: Any) -> None:
        """Take back what :meth:`state` gave."""
        ...


class FactorRate:
    """Peak rates times ``factor(step)``: a pure function of the step, but for a plateau."""

    def __init__(self, optimizer: Optimizer, factor: Callable[[int], float]) -> None:
        self._factor, self._optimizer = factor, optimizer
        self._plateau = factor if isinstance(factor, Bound) and factor.plateau is not None else None
        self.reacts = self._plateau is not None
        self._peaks = [float(group["lr"]) for group in optimizer.param_groups]

    def write(self, step: int) -> None:
        factor = self._factor(step)
        # Not kept from the start: load_state_dict puts new dicts in the place of the old ones.
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(peak * factor)
            else:
                group["lr"] = peak * factor

    def observe(self, valid_loss: float) -> None:
        if self._plateau is not None:
            self._plateau.report(valid_loss)

    def state(self) -> dict[str, Any] | None:
        return None if self._plateau is None else self._plateau.state_dict()

    def load(self, state: Any) -> None:
        if self._plateau is not None:
            self._plateau.load_state_dict(state)


class TorchRate:
    """A torch scheduler, stepped after every optimizer step; plateau schedulers after every validation."""

    def __init__(self, scheduler: LRScheduler) -> None:
        self._scheduler = scheduler
        self.reacts = isinstance(scheduler, ReduceLROnPlateau)

    def write(self, step: int) -> None:
        # Stepped late, right before the step it is for: a state saved in between is the same either way.
        if step > 0 and not self.reacts:
            self._scheduler.step()

    def observe(self, valid_loss: float) -> None:
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(valid_loss)

    def state(self) -> Any:
        return self._scheduler.state_dict()

    def load(self, state: Any) -> None:
        self._scheduler.load_state_dict(state)


@dataclass(frozen=True)
class RunLength:
    """Length of a run: optimizer steps in all and of an epoch (None where unknown), samples of a step."""

    steps: int
    steps_per_epoch: int | None
    batch_size: int | None


def build_rate(spec: ScheduleSpec, optimizer: Optimizer, length: RunLength) -> tuple[Rate, str]:
    """Return the learning rate of every step, and its name.

    Args:
        spec: text for :func:`kudari.schedules.parse`, a Schedule, a torch LRScheduler of this optimizer,
            ``factor(step, total_steps)``, or None for a constant rate.
        optimizer: holds the peak rates.
        length: of the run; schedules may be written in steps, epochs, samples or shares of the run.

    Raises:
        ArgumentError: where it is none of these, or a scheduler of another optimizer.
    """
    if isinstance(spec, LRScheduler):
        if spec.optimizer is not optimizer:
            raise ArgumentError(
                f"The {type(spec).__name__} belongs to another optimizer.",
                why="It would change learning rates that nobody uses.",
                fix="Pass that optimizer as optimizer=, or a schedule by name.",
            )
        return TorchRate(spec), type(spec).__name__
    factor, name = build_factor(spec, length)
    return FactorRate(optimizer, factor), name


def build_factor(spec: ScheduleSpec, length: RunLength) -> tuple[Callable[[int], float], str]:
    """Return what the peak rate is multiplied by at every step, and its name.

    Args:
        spec: as for :func:`build_rate`, a torch LRScheduler excepted.
        length: of the run.

    Raises:
        ArgumentError: where it is none of these.
    """
    if spec is None:
        return lambda step: 1.0, "constant"
    if isinstance(spec, (str, schedules.Schedule)):
        schedule = schedules.parse(spec)
        bound = schedule.bind(
            length.steps, steps_per_epoch=length.steps_per_epoch, batch_size=length.batch_size
        )
        return bound, str(schedule)
    if isinstance(spec, LRScheduler | type) or not callable(spec):
        raise ArgumentError(
            f"schedule is {spec.__name__}, a class."
            if isinstance(spec, type)
            else f"schedule is a {type(spec).__name__}.",
            fix="Pass 'warmup_cosine', a Schedule, a torch LRScheduler or factor(step, total_steps).",
        )
    own = cast(Callable[[int, int], float], spec)
    return lambda step: own(step, length.steps), _name(spec)


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))


def current_rate(optimizer: Optimizer) -> float:
    """Return the learning rate of the first parameter group."""
    return float(optimizer.param_groups[0]["lr"])
