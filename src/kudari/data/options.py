"""What a caller can decide about loading data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from kudari.data.split import check_split_arguments
from kudari.errors import ArgumentError, did_you_mean

OnBad = Literal["error", "skip"]


@dataclass(frozen=True)
class LoadOptions:
    """Arguments of :func:`kudari.data.load_path`, checked; see there for their meaning.

    Raises:
        ArgumentError: where one is out of range.
    """

    target: str | None = None
    task: str | None = None
    valid_fraction: float = 0.2
    seed: int = 0
    image_size: int | tuple[int, int] | None = None
    on_bad: OnBad = "error"

    def __post_init__(self) -> None:
        check_split_arguments(self.valid_fraction, self.seed)
        tasks = ("classification", "regression")
        if self.task is not None and self.task not in tasks:
            raise ArgumentError(
                f"task={self.task!r} is not known.{did_you_mean(self.task, tasks)}",
                fix="Allowed: classification, regression, or leave it out.",
            )
        if self.on_bad not in get_args(OnBad):
            raise ArgumentError(f"on_bad={self.on_bad!r} is not known.", fix="Allowed: error, skip.")
