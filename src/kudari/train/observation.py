"""The doctor at the start of a run: the first steps are watched, and what is wrong with them is told.

The loop here is our own, so its protocol needs no watching; what a user brings may be wrong all the same:
data, labels, model and loss. That shows in the first steps. Watching all of them would cost small models a
good part of a step, watching these costs nothing that can be measured over a run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kudari.doctor.suppression import WEAK
from kudari.doctor.watching import Doctor, is_watching, watch
from kudari.record import Diagnosis

WATCHED_STEPS = 30
# All that is asked for below needs 10 of them at most.
SAMPLED_STEPS = 12
# Statistics of a whole run say nothing after so few steps, and advice on speed is not asked for here.
LATER = (*(slug for slug in WEAK if slug != "initial-loss-off"), "loader-bottleneck", "host-sync-every-step")


class Observation:
    """What the doctor has found so far; empty where nobody watched."""

    def __init__(self, doctor: Doctor | None) -> None:
        self._doctor = doctor

    @property
    def diagnoses(self) -> tuple[Diagnosis, ...]:
        """The findings as a record keeps them."""
        if self._doctor is None:
            return ()
        return tuple(
            Diagnosis(f.fault, f.severity, f.message, f.fix, f.file, f.line)
            for f in self._doctor.examine().shown
            if f.severity != "note"
        )


@contextlib.contextmanager
def observed(wanted: bool) -> Iterator[Observation]:
    """Watch the first steps of the block, unless not wanted or somebody watches already."""
    if not wanted or is_watching():
        yield Observation(None)
        return
    with watch(first=SAMPLED_STEPS, steps=WATCHED_STEPS, ignore=LATER) as doctor:
        yield Observation(doctor)
