"""The one call: training that leaves a report behind."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from kudari.report import write_report
from kudari.train.fit import fit as train

P = ParamSpec("P")
R = TypeVar("R")


def _with_report(call: Callable[P, R]) -> Callable[P, R]:
    """The same call, drawing ``report.html`` at the end unless told to do something else."""

    @functools.wraps(call)
    def fit(*args: P.args, **kwargs: P.kwargs) -> R:
        kwargs.setdefault("finish", write_report)
        return call(*args, **kwargs)

    return fit


fit = _with_report(train)
