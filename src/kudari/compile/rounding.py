"""Rounding of 16-bit parameters: the one place where a step loses anything of theirs.

The step is in float32 in any case; this is about the store. ``nearest`` loses every step smaller than half a
unit in the last place. ``stochastic`` keeps its expectation: Gupta et al. 2015, Deep Learning with Limited
Numerical Precision. ``kahan`` keeps what was lost in a second tensor of the parameter's dtype: Zamirai et al.
2020, Revisiting BFloat16 Training.

States kept as bfloat16 have the same trouble: an average that moves by a thousandth a step never changes.
They are rounded up or down by a hash of their own bits and the gradient's, which needs no generator.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from kudari.compile.declarations import State
from kudari.compile.expression import Expr, node, noise, slot, substitute, walk
from kudari.compile.program import Float
from kudari.compile.trace import Trace

ROUNDINGS = ("nearest", "stochastic", "kahan")
# What the last rounding lost; of the parameter's dtype.
KAHAN = State("kahan_comp", full_precision=True, name="kahan_comp")


def with_rounding(trace: Trace, rounding: str, dtype: Float) -> Trace:
    """The trace of a step that rounds its parameter in a given way.

    Args:
        trace: as from the rule.
        rounding: one of :data:`ROUNDINGS`.
        dtype: of the parameter; wider ones than 16 bits are left alone.
    """
    new = dict(trace.outputs).get("p")
    if rounding == "nearest" or dtype not in ("bf16", "f16"):
        return trace
    if rounding == "stochastic":
        if new is None:
            return trace
        rounded = node(f"stochastic_{dtype}", new, noise())
        return replace(trace, outputs=tuple((n, rounded if n == "p" else e) for n, e in trace.outputs))
    # The parameter that the step reads is the sum of what is stored and what the last rounding lost.
    full = slot("p") + slot(KAHAN.name)
    trace = _reading(trace, full)
    values = dict(trace.outputs)
    if new is not None:
        exact = values["p"]
        values["p"] = node(f"to_{dtype}", exact)
        values[KAHAN.name] = exact - values["p"]
    return replace(trace, outputs=tuple(values.items()), states=(*trace.states, KAHAN))


def _reading(trace: Trace, full: Expr) -> Trace:
    """The trace with something else for ``p`` wherever it is read: sums and factors too."""
    keys = ("outputs", "cells", "running", "factors")
    kept: dict[str, tuple[tuple[Any, Expr], ...]] = {key: getattr(trace, key) for key in keys}
    roots = iter(substitute([e for pairs in kept.values() for _, e in pairs], {slot("p"): full}))
    new: dict[str, Any] = {key: tuple((n, next(roots)) for n, _ in pairs) for key, pairs in kept.items()}
    return replace(trace, **new)


def with_drawn_states(trace: Trace, names: Collection[str]) -> Trace:
    """The trace with some states, stored as bfloat16, rounded so that their expectation is exact."""
    if not names:
        return trace
    outputs = ((n, node("drawn_bf16", e, _key(e)) if n in names else e) for n, e in trace.outputs)
    return replace(trace, outputs=tuple(outputs))


def _key(value: Expr) -> Expr:
    """Something at hand that differs from step to step, so that a constant does not always round alike."""
    return slot("g") if slot("g") in walk([value]) else value
