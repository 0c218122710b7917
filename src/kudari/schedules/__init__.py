"""Schedules: pure functions of progress for any hyper-parameter, and torch's ``LRScheduler`` face."""

from kudari.schedules.curves.constant import constant
from kudari.schedules.curves.cosine import cosine
from kudari.schedules.curves.linear import linear
from kudari.schedules.curves.warmup import warmup
from kudari.schedules.length import Length, RunSize
from kudari.schedules.parse import names, parse
from kudari.schedules.schedule import Schedule

__all__ = ["Length", "RunSize", "Schedule", "constant", "cosine", "linear", "names", "parse", "warmup"]
