"""The public exams that every rule, schedule and finding sits, ours and yours."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kudari.testing.finding_exam import check_finding
    from kudari.testing.rule_exam import RuleExamError, check_rule
    from kudari.testing.schedule_exam import ScheduleExamError, check_schedule

_NAMES = {
    "check_finding": "finding_exam",
    "check_rule": "rule_exam",
    "RuleExamError": "rule_exam",
    "check_schedule": "schedule_exam",
    "ScheduleExamError": "schedule_exam",
}

__all__ = ["RuleExamError", "ScheduleExamError", "check_finding", "check_rule", "check_schedule"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"kudari.testing.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'kudari.testing' has no attribute {name!r}")
