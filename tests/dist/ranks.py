"""Claims that need several processes: all are run in one launch, because starting processes takes seconds.

A claim is a function of :class:`World` in a module below, marked with the number of ranks it needs. The
launcher loads torch once, forks ranks for each number, and writes down what every rank says about every claim.
"""

import datetime
import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULES = tuple(f"tests.dist.claims_{name}" for name in ("parts", "models", "checkpoints", "doctor"))
# Seconds until a rank that waits for another one gives up. A claim takes a fraction of one.
PATIENCE = 40
CLAIMS: dict[str, tuple[int, Callable]] = {}


@dataclass(frozen=True)
class World:
    """Where a rank is.

    Attributes:
        rank, size: its number, and how many there are.
        folder: common to all launches of a run.
    """

    rank: int
    size: int
    folder: Path


def claim(ranks: int):
    """Mark a function as a claim to be run on so many ranks."""

    def register(function):
        assert function.__name__ not in CLAIMS
        CLAIMS[function.__name__] = (ranks, function)
        return function

    return register


def _run_rank(rank: int, size: int, folder: Path) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch.*")
    store = dist.FileStore(str(folder / f"store{size}"), size)
    patience = datetime.timedelta(seconds=PATIENCE)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=patience)
    said = {}
    for name, (ranks, function) in CLAIMS.items():
        if ranks != size:
            continue
        try:
            torch.manual_seed(0)
            function(World(rank, size, folder))
            said[name] = ""
        except Exception:
            said[name] = traceback.format_exc()
        (folder / f"said-{size}-{rank}.json").write_text(json.dumps(said))
        store.set(f"{name}/{rank}", "failed" if said[name] else "holds")
        if len({store.get(f"{name}/{r}") for r in range(size)}) > 1:
            break  # some ranks still wait for this one inside the claim
    if not any(said.values()):
        dist.destroy_process_group()
    os._exit(0)  # not through the interpreter's end: a failed rank leaves a group that waits for ever


def launch(folder: Path) -> dict[str, dict[str, str]]:
    """Run all claims; for each, what each rank said: empty if it holds, else where it failed."""
    importlib.import_module("torch.distributed.tensor.parallel")
    importlib.import_module("torch.distributed.fsdp")
    importlib.import_module("torch.distributed.checkpoint.state_dict")
    importlib.import_module("torch._dynamo")  # fully_shard asks for it: seconds, here once for all ranks
    importlib.import_module("torch").set_num_threads(1)  # a fork takes no threads along
    for module in MODULES:
        importlib.import_module(module).prepare()
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    for size in sorted({ranks for ranks, _ in CLAIMS.values()}, key=lambda n: (n != 2, n)):
        ranks = [context.Process(target=_run_rank, args=(r, size, folder)) for r in range(size)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(PATIENCE + 20)
        for process in ranks:
            if process.is_alive():
                process.kill()
                process.join()
    results: dict[str, dict[str, str]] = {}
    for name, (size, _) in CLAIMS.items():
        results[name] = {}
        for rank in range(size):
            file = folder / f"said-{size}-{rank}.json"
            said = json.loads(file.read_text()) if file.exists() else {}
            results[name][f"rank {rank} of {size}"] = said.get(name, "did not come to this claim")
    return results


def main() -> None:
    """Print the results as one line."""
    with tempfile.TemporaryDirectory() as made:
        print(json.dumps(launch(Path(made))))
