"""Work that rides along with a step: clipping, an average of the weights, and clearing the gradient.

Each is a pass over memory when it is done beside the optimizer. Here it is a few more lines of the rule, so
that the kernels do it while the numbers are there anyway.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kudari.compile.declarations import Hyper, State
from kudari.compile.expression import const
from kudari.compile.notation import Rule, Step, ema, minimum, model_sum, sqrt

CLIP = Hyper(None, at_least=0, name="clip_norm", optional=True, symbol=r"c")
DECAY = Hyper(None, at_least=0, at_most=1, name="ema_decay", optional=True, symbol=r"\gamma")
AVERAGE = State("ema", init="copy", name="ema", full_precision=True)
# As in torch's clip_grad_norm_: keeps the factor finite where every gradient is zero.
CLIP_EPS = 1e-6


@dataclass(frozen=True)
class Extras:
    """What rides along.

    Attributes:
        clip: gradients are scaled down to the number ``clip_norm`` of all of them together.
        average: the state ``ema`` follows the parameter with the decay ``ema_decay``.
        clear: the gradient is set to zero after it has been read.
    """

    clip: bool = False
    average: bool = False
    clear: bool = False

    @classmethod
    def of(cls, group: Mapping[str, Any]) -> Extras:
        """What rides along with the steps of a parameter group."""
        return cls(
            clip=group.get(CLIP.name) is not None,
            average=group.get(DECAY.name) is not None,
            clear=bool(group.get("zero_grad")),
        )


def extend(rule: Rule, extras: Extras) -> Rule:
    """A rule that does more than its own update; the rule itself if there is nothing more to do.

    Args:
        rule: any rule; its formulas beside the step stay as they are.
        extras: what rides along.
    """
    if extras == Extras():
        return rule
    own = inspect.signature(rule.function)
    added: list[tuple[str, Any]] = [(CLIP.name, CLIP)] if extras.clip else []
    added += [(DECAY.name, DECAY)] if extras.average else []

    def extended(**given: Any) -> Step:
        g = given["g"]
        if extras.clip:
            total = sqrt(model_sum(g * g))
            given["g"] = g * minimum(1, given["clip_norm"] / (total + CLIP_EPS))
        step = rule.function(**{name: given[name] for name in own.parameters})
        if extras.average:
            step.new["ema"] = ema(given["ema"], step.new["p"], given["ema_decay"])
        if extras.clear:
            step.new["g"] = const(0)
        return step

    kind = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, kind, default=default) for name, default in added]
    if extras.average:
        more.append(inspect.Parameter("ema", kind, default=AVERAGE))
    extended.__signature__ = inspect.Signature([*own.parameters.values(), *more])  # type: ignore[attr-defined]
    return replace(
        rule,
        function=extended,
        states=(*rule.states, *([AVERAGE] if extras.average else [])),
        hypers=(*rule.hypers, *(hyper for _, hyper in added)),
        clears=extras.clear,
    )
