"""Extra forwards on a deep copy: do samples of a batch, or later tokens, leak into each other?"""

from __future__ import annotations

import contextlib
import copy
import io
import random
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from kudari.doctor.observe.graph import local_part

if TYPE_CHECKING:
    from kudari.doctor.track.calls import Root

# An odd number of rows, so that no dimension of a model equals it by chance.
PROBE_ROWS = 7
MAX_PARAMETERS = 30_000_000
RELATIVE_CHANGE = 1e-4


@contextlib.contextmanager
def untouched_randomness() -> Iterator[None]:
    """Put the generators of Python, numpy and torch back afterwards, and swallow prints."""
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    with (
        torch.random.fork_rng(devices=[]),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(python)
            if numpy is not None:
                numpy.random.set_state(numpy_state)


def token_ids(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int | str, Any]:
    """Arguments that may be sequences of token ids, (batch, length) of integers, by position or name."""
    named: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    return {
        name: x.detach()
        for name, x in named
        if isinstance(x, torch.Tensor) and x.dim() == 2 and x.dtype in (torch.int32, torch.int64)
    }


def probe_root(root: Root, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Run the probes on a copy of a model and write what they saw into its record.

    Any failure of the copied model means "not applicable": the probe changes the number of rows.
    """
    if sum(p.numel() for p in module.parameters()) > MAX_PARAMETERS:
        root.mixing_why = root.leak_why = "the model is too large to copy"
        return
    if _is_sharded(module):
        root.mixing_why = root.leak_why = "the parameters are sharded: other ranks would have to run it, too"
        return
    x = args[0] if len(args) == 1 and not kwargs and isinstance(args[0], torch.Tensor) else None
    tokens = token_ids(args, kwargs)
    name = root.shifted_input if root.shifted_input in tokens else next(iter(tokens), None)
    if x is None or not _is_batch(x):
        root.mixing_why = "the input is not one batch tensor of 8 or more rows on the CPU"
    if name is None or not _is_batch(tokens[name]):
        root.leak_why = "no batch of 8 or more sequences of token ids was seen on the CPU"
    with torch.no_grad(), untouched_randomness():
        try:
            if x is not None and _is_batch(x):
                _mixing(root, copy.deepcopy(module).eval(), x[:PROBE_ROWS].detach().clone())
        except Exception as error:
            root.mixing_why = f"the copied model could not run on {PROBE_ROWS} rows ({type(error).__name__})"
        try:
            if name is not None and _is_batch(tokens[name]):
                twin = copy.deepcopy(module).eval()
                _leak(root, twin, name, [_first_rows(a, len(tokens[name])) for a in args],
                      {k: _first_rows(v, len(tokens[name])) for k, v in kwargs.items()})  # fmt: skip
        except Exception as error:
            root.leak_why = f"the copied model could not run on {PROBE_ROWS} rows ({type(error).__name__})"


def copyable(module: nn.Module) -> bool:
    """True for models that may be copied and run on their own: not too large, not sharded over ranks."""
    return sum(p.numel() for p in module.parameters()) <= MAX_PARAMETERS and not _is_sharded(module)


def _is_sharded(module: nn.Module) -> bool:
    # FSDP2 shows whole parameters between forward and backward, so its own method is asked for as well.
    gathers = any(hasattr(m, "set_requires_gradient_sync") for m in module.modules())
    return gathers or any(local_part(p) is not p for p in module.parameters())


def _is_batch(x: Any) -> bool:
    return bool(x.dim() >= 2 and x.shape[0] > PROBE_ROWS and x.device.type == "cpu")


def _first_rows(value: Any, rows: int) -> Any:
    is_rows = isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == rows
    return value[:PROBE_ROWS].detach().clone() if is_rows else value


def _seed() -> None:
    """The same random numbers for every run of a copy, which is on the CPU.

    ``torch.manual_seed`` seeds all devices, and for one that is not in use yet writes down a stack trace.
    """
    torch.default_generator.manual_seed(0)


def _outputs(twin: nn.Module, x: Any) -> Any:
    _seed()
    out = twin(x)
    return out[0] if isinstance(out, (tuple, list)) else out


def _mixing(root: Root, twin: nn.Module, x: Any) -> None:
    y, again = _outputs(twin, x), _outputs(twin, x)
    shape = tuple(y.shape) if isinstance(y, torch.Tensor) else ()
    if len(shape) < 2 or shape[0] != PROBE_ROWS or PROBE_ROWS in shape[1:] or not y.is_floating_point():
        root.mixing_why = "the output is not one row per sample"
        return
    if not torch.equal(y, again) or not bool(torch.isfinite(y).all()):
        root.mixing_why = "the output is random or not finite in eval mode"
        return
    changed = x.clone()
    changed[0] = x[1].flip(0) if not x.is_floating_point() else x[1] * 0.5 + x[0].std() + 0.1
    if torch.equal(changed[0], x[0]):
        changed[0] = x[2]
    z, back = _outputs(twin, changed), _outputs(twin, changed)
    if y.dim() >= 3 and tuple(y.shape[:2]) == tuple(x.shape[:2]) and _may_be_time(twin, x, y):
        root.mixing_why = "the first dimension may be time: the model works on sequences that come first"
        return
    scale = float(y.abs().max()) + 1e-12
    moved = float((z - y)[1:].abs().max()) / scale
    repeated = float((back - y)[1:].abs().max()) / scale
    root.mixing = {"moved": moved if abs(moved - repeated) < 1e-9 else 0.0}


def _may_be_time(twin: nn.Module, x: Any, y: Any) -> bool:
    """True for layers that expect time first, and where the last row changes no other."""
    if any(getattr(m, "batch_first", True) is False for m in twin.modules()):
        return True
    changed = x.clone()
    changed[-1] = x[0]
    return bool(torch.allclose(_outputs(twin, changed)[:-1], y[:-1]))


def _leak(root: Root, twin: nn.Module, name: int | str, args: list[Any], kwargs: dict[str, Any]) -> None:
    x = args[name] if isinstance(name, int) else kwargs[name]

    def scores(tokens: Any) -> Any:
        _seed()
        given = dict[int | str, Any](enumerate(args)) | kwargs | {name: tokens}
        out = twin(*(given[i] for i in range(len(args))), **{k: given[k] for k in kwargs})
        outs = out.values() if isinstance(out, dict) else out if isinstance(out, (tuple, list)) else [out]
        return next(
            (y for y in outs if isinstance(y, torch.Tensor) and y.dim() == 3 and y.shape[:2] == tokens.shape),
            None,
        )

    y = scores(x)
    if y is None or x.shape[1] < 4:
        root.leak_why = "the output is not one row of scores per token"
        return
    changed = x.clone()
    changed[:, -1] = torch.where(x[:, -1] > 0, x[:, -1] - 1, x[:, -1] + 1)
    z = scores(changed)
    scale = float(y.abs().max()) + 1e-12
    root.leak = {"moved": float((z - y)[:, :-1].abs().max()) / scale}
