"""Every loader worker draws the same random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.doctor.finding import Found, Illness, Manual, Runs, Skipped, Verdict
from kudari.doctor.judging import place
from kudari.doctor.static.modes import read_worker_generators

if TYPE_CHECKING:
    from kudari.doctor.track.run import RunFacts


def judge(run: RunFacts) -> Verdict:
    """A private generator of a dataset used in ``__getitem__`` by several workers."""
    if not run.data.worker_loaders:
        return Skipped("no DataLoader with 2 or more workers and without worker_init_fn was iterated")
    return [
        Found(
            f"{name} ({seen['kind']}) is copied into {seen['workers']} workers: they all draw the "
            "same numbers",
            place(seen["getitem"]),
            {"count": seen["workers"], "first_step": 0, "generator": name},
            label=f"draws from {name.split('.')[-1]}",
        )
        for name, seen in run.data.private.items()
    ]


_RUN = """\
import random
import torch
from torch.utils.data import DataLoader, Dataset

class Noisy(Dataset):
    def __init__(self):
        self.rng = random.Random(0)

    def __len__(self):
        return 32

    def __getitem__(self, i):
        return torch.full((4,), i + self.rng.random())

if __name__ != "__mp_main__":
    loader = DataLoader(Noisy(), batch_size=8, num_workers=2)
    iter(loader)
"""

ILLNESS = Illness(
    slug="identical-worker-augmentation",
    severity="error",
    manual=Manual(
        sees="A DataLoader with 2 or more workers and no worker_init_fn over a dataset that holds "
        "its own generator and "
        "draws from it in __getitem__.",
        hurts="Each worker starts from a copy of the same state, so augmentations repeat, and repeat "
        "again every epoch.",
        fix="reseed per worker: numpy.random.default_rng(torch.utils.data.get_worker_info().seed)",
        unless="the workers are meant to draw the same numbers",
    ),
    judge=judge,
    read=read_worker_generators,
    runs=Runs(
        _RUN, (("num_workers=2", "num_workers=0"),), _RUN.replace("self.rng.random()", "random.random()")
    ),
)
