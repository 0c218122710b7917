"""From a rule to its optimizer class."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from kudari.compile.expression import walk
from kudari.compile.notation import Rule
from kudari.compile.trace import trace
from kudari.optim import hypers
from kudari.optim.admission import admit
from kudari.optim.describe import defaults, docstring, programs
from kudari.optim.faces import FACES
from kudari.optim.optimizer import RuleOptimizer


def make_class(rule: Rule, module: str | None = None) -> type[RuleOptimizer]:
    """Make the optimizer class of a rule, ours or yours.

    Args:
        rule: made by :func:`kudari.compile.notation.rule`.
        module: where the class is to be found by ``pickle``, under the rule's name; by default the module of
            the rule.

    Raises:
        RuleError: a name or a default of the rule is not usable, or it does not return a step.

    Example:
        >>> import torch
        >>> from kudari.compile.notation import Step, hyper, rule, sign
        >>> @rule(name="SignSGD", source="Bernstein et al. 2018, signSGD")
        ... def sign_sgd(p, g, *, lr=hyper(1e-3, at_least=0)):
        ...     return Step(p=p - lr * sign(g))
        >>> w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        >>> w.grad = torch.tensor([0.5, -3.0])
        >>> make_class(sign_sgd)([w], lr=0.25).step()
        >>> w.data
        tensor([ 0.7500, -1.7500])
    """
    trace(admit(rule), defaults(rule))
    return _made(rule, module or rule.function.__module__)


class Later:
    """A class attribute that is computed when it is first asked for: importing all rules lowers none."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute = compute

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def __get__(self, instance: object, owner: type) -> Any:
        value = self.compute()
        setattr(self.owner, self.name, value)
        return value


def _made(rule: Rule, module: str) -> type[RuleOptimizer]:
    options, kinds = [o.name for o in rule.options], [k.name for k in rule.kinds]
    body = {
        "rule": rule,
        "_options": operator.itemgetter("maximize", "state_dtype", "rounding", *options),
        "_switches": tuple({s.when for s in rule.states if s.when} - {*options, *kinds}),
        "_couples": Later(lambda: any(part.sums for part in programs(rule)) or len(programs(rule)) > 1),
        "_model_numbers": Later(lambda: _of_model(rule)) if rule.running else frozenset(),
        "_optional": tuple(h.name for h in rule.hypers if h.optional or _partly_none(h.default)),
        "_slices": tuple(dict.fromkeys(s.every for s in rule.states if s.every)),
        "_signature": hypers.signature(rule),
        "__signature__": hypers.signature(rule),
        "__doc__": docstring(rule),
        "__module__": module,
    }
    base = next((face for formula, face in FACES.items() if formula in dict(rule.formulas)), RuleOptimizer)
    return type(rule.name, (base,), body)


def _of_model(rule: Rule) -> frozenset[str]:
    """The rule's running numbers that come from a sum over the whole model."""
    running = trace(rule, defaults(rule)).running
    return frozenset(name for name, e in running if any(x.op == "sum_model" for x in walk([e])))


def _partly_none(default: object) -> bool:
    return isinstance(default, tuple) and None in default


def classes(rules: Sequence[Rule], module: str) -> dict[str, type[RuleOptimizer]]:
    """The classes of several rules, by name."""
    return {rule.name: _made(rule, module) for rule in rules}
