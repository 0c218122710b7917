"""A schedule of the batch size, in whole samples, and how many samples a step has behind it."""

from __future__ import annotations

import bisect

from kudari.errors import ArgumentError
from kudari.schedules.schedule import Schedule


class BatchSizes:
    """The batch size at every optimizer step, following a schedule.

    Args:
        schedule: factor of the largest batch size.
        largest: samples in a step where the factor is 1; at least 1.
        total_steps: optimizer steps of the run.
        multiple_of: sizes are rounded to multiples of this, such as the number of processes; never to 0.

    Raises:
        ArgumentError: if ``largest`` is not a multiple of ``multiple_of``, or a number is below 1.

    Example:
        >>> from kudari.schedules import linear
        >>> sizes = BatchSizes(linear(0.25, 1, length=4), 64, total_steps=10, multiple_of=16)
        >>> [sizes(step) for step in range(6)]
        [16, 32, 32, 48, 64, 64]
        >>> sizes.samples_before(3), sizes.step_of(100)
        (80, 3)
    """

    def __init__(self, schedule: Schedule, largest: int, total_steps: int, *, multiple_of: int = 1) -> None:
        for name, value in (("largest", largest), ("total_steps", total_steps), ("multiple_of", multiple_of)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ArgumentError(f"{name}={value!r} is not a whole number of 1 or more.")
        if largest % multiple_of:
            raise ArgumentError(
                f"largest={largest} is not a multiple of {multiple_of}.",
                fix=f"Take {largest // multiple_of * multiple_of or multiple_of}.",
            )
        self.schedule, self.largest, self.total_steps = schedule, largest, total_steps
        self._multiple_of = multiple_of
        self._bound = schedule.bind(total_steps)
        self._before = [0]

    def __call__(self, step: int) -> int:
        """Samples in an optimizer step, which counts from 0."""
        whole = round(self.largest * self._bound(step) / self._multiple_of)
        return max(1, whole) * self._multiple_of

    def samples_before(self, step: int) -> int:
        """Samples in all the steps before this one."""
        while len(self._before) <= step:
            self._before.append(self._before[-1] + self(len(self._before) - 1))
        return self._before[step]

    def step_of(self, sample: int) -> int:
        """The optimizer step that a sample of the run belongs to, both from 0."""
        while self._before[-1] <= sample:
            self.samples_before(len(self._before))
        return bisect.bisect_right(self._before, sample) - 1
