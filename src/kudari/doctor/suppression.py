"""Root causes silence their symptoms: the table, and how it is applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from kudari.doctor.finding import Finding

WEAK = (
    "plateau", "oscillation", "overfitting", "lr-too-high", "lr-too-low", "exploding-gradients",
    "vanishing-gradients", "dead-units", "saturated-activations", "initial-loss-off",
)  # fmt: skip

_UNTRAINED = ("zero-grad-breaks-accumulation", "scheduler-before-optimizer", "params-not-in-optimizer", *WEAK)
_LOSS_AND_DATA = (
    "softmax-before-cross-entropy", "sigmoid-before-bce-with-logits", "nll-without-log-softmax",
    "loss-shape-broadcast", "label-out-of-range", "padding-in-loss", "unnormalized-input",
    "eval-preprocessing-differs", "constant-labels-or-unshuffled", "train-val-overlap",
    "identical-worker-augmentation", "future-leak", "missing-zero-grad", "zero-grad-breaks-accumulation",
    "scheduler-wrong-period",
)  # fmt: skip

# Root -> symptoms, the strongest root first.
ROOTS: dict[str, tuple[str, ...]] = {
    "optimizer-never-stepped": ("graph-cut", "nothing-trainable", *_UNTRAINED),
    "softmax-over-one-class": ("graph-cut", "vanishing-gradients", *WEAK),
    "graph-cut": ("nothing-trainable", *_UNTRAINED),
    "nothing-trainable": _UNTRAINED,
    "modules-in-python-list": ("params-not-in-optimizer", *WEAK),
    "optimizer-holds-foreign-params": ("params-not-in-optimizer", *WEAK),
    "params-not-in-optimizer": WEAK,
    "frozen-but-changing": WEAK,
    "batch-mixing": ("nll-without-log-softmax", *WEAK),
    **dict.fromkeys(_LOSS_AND_DATA, WEAK),
    "initial-loss-off": (),
    "nan-origin": ("lr-too-high", "exploding-gradients", "plateau", "oscillation"),
    "lr-too-high": ("exploding-gradients", "dead-units", "saturated-activations", "plateau", "oscillation"),
    "exploding-gradients": ("dead-units", "plateau"),
    "dead-units": ("vanishing-gradients", "plateau"),
    "vanishing-gradients": ("plateau",),
    "lr-too-low": ("plateau",),
    "saturated-activations": ("plateau",),
}

# A rate that was too high this many steps before the first non-finite value is the root of it.
RATE_BEFORE_NAN_STEPS = 5


def suppress(findings: Sequence[Finding]) -> list[Finding]:
    """Set ``suppressed_by`` on every symptom of an active root.

    A root acts on findings about the same optimizer or model; a finding that names neither shares
    with all. Notes are never roots, and a suppressed root still keeps its own symptoms silent.
    """
    table = dict(ROOTS)
    if _rate_came_first(findings):
        table["nan-origin"] = ()
        table["lr-too-high"] = ("nan-origin", *ROOTS["lr-too-high"])
    order = {slug: rank for rank, slug in enumerate(table)}
    roots = sorted(
        (f for f in findings if f.fault in table and f.severity != "note"), key=lambda f: order[f.fault]
    )
    result = []
    for finding in findings:
        by = next((r.fault for r in roots if _acts(r, finding, table)), None)
        result.append(dataclasses.replace(finding, suppressed_by=by) if by else finding)
    return _name_symptoms(result)


def _acts(root: Finding, finding: Finding, table: dict[str, tuple[str, ...]]) -> bool:
    if finding.fault not in table[root.fault]:
        return False
    return not root.subjects or not finding.subjects or bool(root.subjects & finding.subjects)


def _rate_came_first(findings: Sequence[Finding]) -> bool:
    rate = next((f.evidence for f in findings if f.fault == "lr-too-high"), {})
    origin = next((f.evidence for f in findings if f.fault == "nan-origin"), {})
    first, bad, blown = rate.get("first_step"), origin.get("first_step"), rate.get("blown_step")
    if first is None or bad is None:
        return False
    # A step as large as the weights themselves needs no five steps to break a loss by its size alone.
    at_once = blown is not None and blown < bad and origin.get("cause") in ("overflow", "weights")
    return bool(first + RATE_BEFORE_NAN_STEPS <= bad) or at_once


def _name_symptoms(findings: list[Finding]) -> list[Finding]:
    explains: dict[str, list[str]] = {}
    for f in findings:
        if f.suppressed_by:
            explains.setdefault(f.suppressed_by, []).append(f.fault)
    return [
        dataclasses.replace(f, explains=tuple(dict.fromkeys(explains[f.fault])))
        if f.fault in explains and not f.suppressed_by
        else f
        for f in findings
    ]
