"""A run without an end."""

from kudari.errors import ArgumentError
from kudari.schedules.curves.constant import constant
from kudari.schedules.curves.cosine import cosine
from kudari.schedules.curves.warmup import warmup as rise
from kudari.schedules.length import LengthLike
from kudari.schedules.schedule import Schedule


def infinite(warmup: LengthLike = 1000, *, level: float = 1.0, decay: LengthLike | None = None) -> Schedule:
    """Rise, then stay for as long as the run goes on; end it from any checkpoint with ``cooldown_from``.

    Source: Ibrahim et al. 2024, Simple and Scalable Strategies to Continually Pre-train Large Language
    Models, section 7; level 1 without a decay is the constant schedule of Hägele et al. 2024.

    Args:
        warmup: length of the rise; in steps, no total is needed.
        level: the factor to stay at.
        decay: length of the cosine from 1 to ``level``; needed if ``level`` is below 1.

    Raises:
        ArgumentError: if ``level`` is below 1 and no ``decay`` says how to get there.

    Example:
        >>> infinite(100).factor(10**6)
        1.0
    """
    stay = constant(level)
    if (level == 1) != (decay is None):
        raise ArgumentError(
            f"infinite: level={level:g} and decay={decay!r} do not go together.",
            fix="Give both a level below 1 and the decay's length, or neither.",
        )
    if decay is None:
        return rise(warmup) >> stay
    return rise(warmup) >> cosine(floor=level, length=decay) >> stay
