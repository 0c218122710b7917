"""Schedules: pure functions of progress for any hyper-parameter, and torch's ``LRScheduler`` face."""

from kudari.schedules.batch import BatchSizes
from kudari.schedules.branch import cooldown_from, freeze
from kudari.schedules.curve import curve
from kudari.schedules.curves.constant import constant
from kudari.schedules.curves.cooldown import cooldown
from kudari.schedules.curves.cosine import cosine
from kudari.schedules.curves.cosine_restarts import cosine_restarts
from kudari.schedules.curves.cyclic import cyclic
from kudari.schedules.curves.exponential import exponential
from kudari.schedules.curves.exponential_warmup import exponential_warmup
from kudari.schedules.curves.infinite import infinite
from kudari.schedules.curves.inverse_sqrt import inverse_sqrt
from kudari.schedules.curves.linear import linear
from kudari.schedules.curves.multi_step import multi_step
from kudari.schedules.curves.one_cycle import one_cycle
from kudari.schedules.curves.plateau import plateau
from kudari.schedules.curves.polynomial import polynomial
from kudari.schedules.curves.rex import rex
from kudari.schedules.curves.step import step
from kudari.schedules.curves.warmup import warmup
from kudari.schedules.curves.wsd import wsd
from kudari.schedules.function import function
from kudari.schedules.length import Length, RunSize
from kudari.schedules.parse import names, parse
from kudari.schedules.schedule import Schedule

__all__ = [
    "BatchSizes",
    "Length",
    "RunSize",
    "Schedule",
    "constant",
    "cooldown",
    "cooldown_from",
    "cosine",
    "cosine_restarts",
    "curve",
    "cyclic",
    "exponential",
    "exponential_warmup",
    "freeze",
    "function",
    "infinite",
    "inverse_sqrt",
    "linear",
    "multi_step",
    "names",
    "one_cycle",
    "parse",
    "plateau",
    "polynomial",
    "rex",
    "step",
    "warmup",
    "wsd",
]
