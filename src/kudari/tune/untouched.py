"""Trying things out on somebody's objects, and leaving no trace: a copy of everything a trial can change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Undo = Callable[[], None]

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_PARTS = 8
"""A longer list is data, not a few objects that data come from."""
_INNER = ("dataset", "sampler", "batch_sampler", "data")
"""Attributes of a loader that hold further objects which may move while it is read."""


class Snapshot:
    """Everything that a trial may change, as it was when this was made; :meth:`restore` any number of times.

    Tensors get their old bytes back in place, so that addresses and identities stay what they were: views,
    tied weights, an optimizer's bound kernels and captured graphs go on working.

    Args:
        model: parameters, gradients, buffers and modes, and what its modules keep in attributes: numbers,
            texts, tensors, lists and dictionaries.
        optimizer: state, groups and plain attributes; None to leave out.
        sources: loaders and the like; their attributes, random generators and what they are made of.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> kept = Snapshot(model)
        >>> with torch.no_grad():
        ...     before = model.weight.item()
        ...     _ = model.weight.add_(1.0)
        >>> kept.restore()
        >>> model.weight.item() == before
        True
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer | None = None, sources: Iterable[Any] = ()
    ) -> None:
        self._undo: list[Undo] = [*_keep_model(model)]
        if optimizer is not None:
            self._undo += _keep_optimizer(optimizer)
        for source in sources:
            self._undo += _keep_object(source, depth=3)

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for undo in self._undo:
                undo()


@contextmanager
def untouched(
    model: nn.Module, optimizer: Optimizer | None = None, sources: Iterable[Any] = ()
) -> Iterator[Snapshot]:
    """Inside the block anything may happen to model, optimizer, sources and random state; not afterwards.

    Args:
        model, optimizer, sources: see :class:`Snapshot`. Random generators of Python, NumPy and torch (all
            devices) are kept as well.
    """
    randomness = _keep_randomness()
    kept = Snapshot(model, optimizer, sources)
    try:
        yield kept
    finally:
        kept.restore()
        for undo in randomness:
            undo()


def _keep_tensor(tensor: Tensor) -> Undo:
    copy = tensor.detach().clone()

    def undo() -> None:
        tensor.detach().copy_(copy)

    return undo


def _keep_model(model: nn.Module) -> Iterator[Undo]:
    for p in model.parameters():
        yield _keep_parameter(p)
    for module in model.modules():
        yield from _keep_tables(module)
        yield from _keep_own(module)
        yield _keep_plain(module, (*_PLAIN, Tensor, list, dict))


def _keep_parameter(p: nn.Parameter) -> Undo:
    # `Module.to` puts another tensor behind the parameter: the old one is remembered with its bytes.
    data, grad, wanted = p.data, p.grad, p.requires_grad
    bytes_back = _keep_tensor(data)
    grad_back = None if grad is None else _keep_tensor(grad)

    def undo() -> None:
        if p.data.data_ptr() != data.data_ptr() or p.device != data.device:
            p.data = data
        bytes_back()
        p.requires_grad_(wanted)
        p.grad = grad
        if grad_back is not None:
            grad_back()

    return undo


def _keep_tables(module: nn.Module) -> Iterator[Undo]:
    """The entries themselves: a module may put a new tensor in the place of a buffer."""
    for table in (module._parameters, module._buffers):
        yield _keep_dict(table)
    for buffer in module._buffers.values():
        if buffer is not None:
            yield _keep_tensor(buffer)


def _keep_own(module: nn.Module) -> Iterator[Undo]:
    """What a module remembers beside its buffers: averages, caches, lists of what it has seen."""
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers"):
            continue
        if isinstance(value, Tensor):
            yield _keep_tensor(value)
        elif isinstance(value, (list, dict)):
            inside = value if isinstance(value, list) else value.values()
            yield from (
                _keep_tensor(v) for v in inside if isinstance(v, Tensor) and not isinstance(v, nn.Parameter)
            )
            yield _keep_list(value) if isinstance(value, list) else _keep_dict(value)


def _keep_dict(table: Any) -> Undo:
    entries = dict(table)

    def undo() -> None:
        table.clear()
        table.update(entries)

    return undo


def _keep_plain(thing: Any, kinds: tuple[type, ...] = _PLAIN) -> Undo:
    """Attributes that are plain values, such as modes and counters, or of other kinds, by identity."""
    attributes = getattr(thing, "__dict__", {})
    kept = {k: v for k, v in attributes.items() if isinstance(v, kinds)}

    def undo() -> None:
        for key, value in kept.items():
            if attributes.get(key, undo) is not value:
                attributes[key] = value
        for key in [k for k, v in attributes.items() if k not in kept and isinstance(v, kinds)]:
            del attributes[key]

    return undo


def _keep_optimizer(optimizer: Optimizer) -> Iterator[Undo]:
    yield _keep_plain(optimizer)
    yield _keep_dict(optimizer.state)
    for state in optimizer.state.values():
        if isinstance(state, dict):
            yield _keep_dict(state)
            yield from (_keep_tensor(v) for v in state.values() if isinstance(v, Tensor))
    for group in optimizer.param_groups:
        yield _keep_dict(group)
        yield from (_keep_tensor(v) for v in group.values() if isinstance(v, Tensor))
        yield from (_keep_list(v) for v in group.values() if isinstance(v, list))


def _keep_list(values: list[Any]) -> Undo:
    entries = list(values)

    def undo() -> None:
        values[:] = entries

    return undo


def _keep_object(thing: Any, depth: int) -> Iterator[Undo]:
    """A loader's attributes, by identity, its random generators, and the objects it is made of."""
    if depth == 0 or thing is None or isinstance(thing, (Tensor, np.ndarray, *_PLAIN)):
        return
    if isinstance(thing, (list, tuple)):
        for item in thing if len(thing) <= _PARTS else ():
            yield from _keep_object(item, depth - 1)
        return
    attributes = getattr(thing, "__dict__", None)
    if not isinstance(attributes, dict):
        return
    yield _keep_attributes(attributes)
    for value in attributes.values():
        yield from _keep_generator(value)
    for name in _INNER:
        yield from _keep_object(attributes.get(name), depth - 1)


def _keep_attributes(attributes: dict[str, Any]) -> Undo:
    entries = dict(attributes)

    def undo() -> None:
        for key in [k for k in attributes if k not in entries]:
            del attributes[key]
        attributes.update(entries)

    return undo


def _keep_generator(value: Any) -> Iterator[Undo]:
    if isinstance(value, torch.Generator):
        state = value.get_state()
        yield lambda: _ignored(value.set_state(state))
    elif isinstance(value, np.random.Generator):
        bits = value.bit_generator
        numbers = bits.state
        yield lambda: setattr(bits, "state", numbers)
    elif isinstance(value, np.random.RandomState):
        legacy = value.get_state()
        yield lambda: value.set_state(legacy)
    elif isinstance(value, random.Random):
        words = value.getstate()
        yield lambda: value.setstate(words)


def _ignored(value: object) -> None:
    return


def _keep_randomness() -> list[Undo]:
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    undo: list[Undo] = [
        lambda: random.setstate(python),
        lambda: np.random.set_state(numpy),
        lambda: torch.set_rng_state(cpu),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        devices = torch.cuda.get_rng_state_all()
        undo.append(lambda: torch.cuda.set_rng_state_all(devices))
    with suppress(AttributeError, RuntimeError):
        if torch.backends.mps.is_available():
            mps = torch.mps.get_rng_state()
            undo.append(lambda: torch.mps.set_rng_state(mps))
    return undo
