"""A factor that falls when a metric stops improving."""

from collections.abc import Callable

from kudari.errors import HyperError, did_you_mean
from kudari.schedules.length import is_number
from kudari.schedules.reacting import Plateau
from kudari.schedules.schedule import Schedule


def plateau(
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    *,
    mode: str = "min",
    threshold_mode: str = "rel",
    cooldown: int = 0,
    floor: float = 0.0,
) -> Schedule:
    """Multiply by ``factor`` when a reported metric stops improving; composes with ``*``.

    Source: torch ReduceLROnPlateau. Differs: the floor is a fraction of the peak, and there is no ``eps``
    below which a reduction is dropped. Report metrics to ``scheduler.report`` or ``bound.report``.

    Args:
        factor: above 0, below 1.
        patience: reports without improvement that are tolerated, 0 or more.
        threshold: smallest improvement that counts, relative (``"rel"``) or absolute (``"abs"``).
        mode: ``"min"`` if small metrics are good, else ``"max"``.
        threshold_mode: ``"rel"`` or ``"abs"``.
        cooldown: reports after a reduction in which nothing is counted.
        floor: 0 to 1.

    Raises:
        HyperError: if a value is outside its range.

    Example:
        >>> bound = (0.5 * plateau(0.1, patience=0)).bind()
        >>> bound.report(1.0), bound.report(2.0), bound(0)
        (False, True, 0.05)
    """
    ranges: dict[str, tuple[float, Callable[[float], bool], str]] = {
        "factor": (factor, lambda v: 0 < v < 1, "0 < factor < 1"),
        "patience": (patience, lambda v: v >= 0 and v == int(v), "patience >= 0, whole"),
        "threshold": (threshold, lambda v: v >= 0, "threshold >= 0"),
        "cooldown": (cooldown, lambda v: v >= 0 and v == int(v), "cooldown >= 0, whole"),
        "floor": (floor, lambda v: 0 <= v <= 1, "0 <= floor <= 1"),
    }
    for name, (value, good, allowed) in ranges.items():
        if not is_number(value) or not good(value):
            raise HyperError(f"plateau: {name}={value!r} is outside its range.", fix=f"Allowed: {allowed}.")
    for name, word, words in (
        ("mode", mode, ("min", "max")),
        ("threshold_mode", threshold_mode, ("rel", "abs")),
    ):
        if word not in words:
            raise HyperError(
                f"plateau: {name}={word!r} is not one of {', '.join(words)}.{did_you_mean(word, words)}"
            )
    return Plateau(factor, patience, threshold, mode, threshold_mode, cooldown, floor)
