"""The exam every rule sits: ours and yours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kudari.compile.notation import Rule
from kudari.errors import ArgumentError, did_you_mean
from kudari.optim.make import make_class
from kudari.optim.optimizer import RuleOptimizer
from kudari.testing import rule_habits, rule_numbers
from kudari.testing.claim import Claim
from kudari.testing.rule_runs import (
    BACKENDS,
    Backend,
    Bounds,
    Oracle,
    Subject,
    WholeModel,
    backends_here,
    default_cases,
    nothing,
    quiet,
)

__all__ = ["BACKENDS", "Backend", "Bounds", "RuleExamError", "WholeModel", "check_rule"]

Sharded = Callable[[type[RuleOptimizer], Mapping[str, Any]], str]
Check = Callable[[Subject], Iterator[str]]

CHECKS: dict[str, Check] = {
    check.__name__.replace("_", "-"): check for check in (*rule_numbers.CLAIMS, *rule_habits.CLAIMS)
}


class RuleExamError(AssertionError):
    """The rule failed the exam; ``claims`` has every claim, in order."""

    def __init__(self, name: str, claims: tuple[Claim, ...]) -> None:
        self.claims = claims
        failed = [claim for claim in claims if not claim.passed]
        super().__init__("\n  ".join([f"{name} fails:", *(f"{c.name}: {c.detail}" for c in failed)]))


def check_rule(
    subject: Rule | type[RuleOptimizer],
    *,
    oracle: Oracle | None = None,
    cases: Iterable[Mapping[str, Any]] | None = None,
    backends: Sequence[Backend] | None = None,
    bounds: Bounds | None = None,
    steps: int = 50,
    before_step: Callable[[Any, int], None] = nothing,
    no_effect: Sequence[str] = (),
    without: Sequence[str] = (),
    sharded: Sharded | None = None,
) -> tuple[Claim, ...]:
    """Sit the exam.

    Args:
        subject: a rule, or its optimizer class.
        oracle: the formula written a second time, in NumPy float64 and from the paper:
            ``oracle(p, g, state, **values) -> p`` for one tensor, with a dict of its own, empty at first, and
            the values of the case; or a :class:`WholeModel`. Its defaults are the rule's. Without one the
            claim ``oracle`` is not asked.
        cases: configurations to try, the last with as much switched on as can be. By default: the rule's
            defaults, other values for all numbers, and every option.
        backends: places to take steps; others are compared with the first. By default the CPU kernel,
            plain torch, and if the environment has ``TRITON_INTERPRET=1`` the GPU kernel, interpreted.
        bounds: tolerances; see :class:`Bounds`.
        steps: length of the trajectory that the oracle is asked about.
        before_step: called before each step with the optimizer and the step's number, gradients in place.
        no_effect: hyper-parameters and options that act outside of ``step``.
        without: names of claims not to ask.
        sharded: takes the class and a case, runs them on several ranks, and returns what differs from one
            process, empty if nothing does; adds the claim ``sharded``.

    Returns:
        The claims that were checked: ``oracle``, ``backends`` (they agree), ``float32`` (a few ulp),
        ``low-precision`` (rounded once), ``low-bit-states`` (drift little, and alike on all backends),
        ``effect`` (of every hyper-parameter), ``sizes``, ``nonfinite``, ``gradient`` (untouched),
        ``threads``, ``split`` and ``strides`` (same bits), ``mixed-dtypes``,
        ``skips`` (no gradient, no step), ``resume``, ``recompile`` (never), ``ranges`` (refused by name),
        ``prints``, ``refuses-misspelt``, and ``sharded``.

    Raises:
        RuleExamError: an AssertionError with every claim that failed and its first counterexample.
        ArgumentError: ``without`` has a name that is none of these.

    Example:
        >>> from kudari.compile.notation import Step, hyper, rule
        >>> @rule(name="Plain", source="Cauchy 1847")
        ... def plain(p, g, *, lr=hyper(0.1, at_least=0)):
        ...     return Step(p=p - lr * g)
        >>> claims = check_rule(plain, oracle=lambda p, g, state, lr=0.1: p - lr * g)
        >>> all(claim.passed for claim in claims)
        True
    """
    cls = make_class(subject) if isinstance(subject, Rule) else subject
    checks = dict(CHECKS)
    if sharded is not None:
        checks["sharded"] = lambda s: (f for f in (sharded(s.cls, case) for case in s.cases) if f)
    for name in without:
        if name not in checks:
            raise ArgumentError(
                f"without={name!r} is no claim of the exam.{did_you_mean(name, checks)}",
                fix=f"Choose among {', '.join(checks)}.",
            )
    chosen = default_cases(cls.rule) if cases is None else tuple(dict(case) for case in cases)
    places = backends_here() if backends is None else tuple(backends)
    sitting = Subject(cls, oracle, chosen, places, bounds or Bounds(), steps, before_step, tuple(no_effect))
    left_out = {*without, *(["oracle"] if oracle is None else [])}
    with quiet():
        claims = tuple(_ask(name, check, sitting) for name, check in checks.items() if name not in left_out)
    if not all(claim.passed for claim in claims):
        raise RuleExamError(cls.rule.name, claims)
    return claims


def _ask(name: str, check: Check, subject: Subject) -> Claim:
    """One claim; an exception is a counterexample too, so that one fault does not hide the others."""
    try:
        detail = next(check(subject), "")
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
    return Claim(name, not detail, detail)
