"""Warmup, stable, decay."""

from kudari.schedules.curves.constant import constant
from kudari.schedules.curves.cooldown import cooldown
from kudari.schedules.curves.warmup import warmup as rise
from kudari.schedules.length import LengthLike
from kudari.schedules.schedule import Schedule


def wsd(
    warmup: LengthLike = "2%", decay: LengthLike = "20%", *, floor: float = 0.0, shape: str = "1-sqrt"
) -> Schedule:
    """Rise, stay at the peak, fall at the end; the floor is a fraction of the peak and is reached.

    Source: Hu et al. 2024, MiniCPM, section 4.2; shapes of the decay: Hägele et al. 2024, section 4.

    Args:
        warmup, decay: lengths of the two slopes; the rest of the run is at the peak.
        floor: 0 to 1.
        shape: ``"1-sqrt"``, ``"linear"`` or ``"cosine"``.

    Example:
        >>> print(wsd(500, "20%"))
        warmup(500) >> constant() >> cooldown('20%')
    """
    return rise(warmup) >> constant() >> cooldown(decay, floor=floor, shape=shape)
