"""Time of a step of every optimizer, ours against the fastest public one installed here, in one process.

    make bench-step
    python benchmarks/bench_rules.py --only Lion LAMB --repeats 9
    python benchmarks/bench_rules.py --json figures.json && python tools/make_performance.py figures.json

64M float32 parameters in 16 matrices. "Share" is the bytes a step must move (each array once in every pass of
the cheapest plan) per second, over those of an in-place ``x.mul_(c)`` of as many elements. Contestants take
turns; every ratio is a median over turns of two times measured one after the other. Then 500 tensors of 1,000
elements. Optimizers that multiply matrices are timed on 4 matrices of 256 x 512, against their rivals alone.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import kudari.optim
from bench_step import parameters, race, ratio
from kudari.optim.describe import describe
from rivals import TORCH_FUSES, rivals

LARGE = [(2048, 2048)] * 16
SMALL = [(1000,)] * 500
MATRICES = [(256, 512)] * 4
MATRIX_RULES = ("Muon", "SOAP", "Shampoo")
REDUCING = ("LAMB", "LARS", "Adafactor", "StableAdamW", "Prodigy")


@dataclass(frozen=True)
class Row:
    """One optimizer's figures.

    Attributes:
        name: class name.
        bytes: bytes a parameter that the step must move; 0 where matrices are multiplied.
        share: of the bandwidth of an in-place multiplication; nan where it does not apply.
        limit: least share asked for.
        rival: the fastest other implementation; empty where none is installed.
        ours_ms, rival_ms: medians.
        times_faster: rival's time over ours, median over turns; nan without a rival.
        small_ms: 500 tensors of 1,000.
        small_ratio: the same over torch's fused AdamW.
    """

    name: str
    bytes: int
    share: float
    limit: float
    rival: str
    ours_ms: float
    rival_ms: float
    times_faster: float
    small_ms: float
    small_ratio: float


def options(name: str) -> dict[str, Any]:
    """What is not a default: SGD is timed with momentum."""
    return {"momentum": 0.9} if name == "SGD" else {}


def ours(name: str, params: list[torch.nn.Parameter]) -> Callable[[], object]:
    """Our step."""
    optimizer = kudari.optim.get(name)(params, **options(name))
    if hasattr(optimizer, "train"):
        optimizer.train()
    step: Callable[[], object] = optimizer.step
    return step


def fastest(name: str, params: list[torch.nn.Parameter]) -> str:
    """Label of the quickest rival, by the better of two steps each after one to warm up."""
    best, best_time = "", float("inf")
    makers = rivals(name)[0]
    if len(makers) < 2:
        return next(iter(makers), "")
    for label, make in makers.items():
        times = race({label: make(params).step}, 2, 1)[label]
        if min(times) < best_time:
            best, best_time = label, min(times)
        gc.collect()
    return best


def measure(name: str, repeats: int) -> Row:
    """Race one optimizer at both sizes."""
    matrices = name in MATRIX_RULES
    params = parameters(MATRICES if matrices else LARGE)
    steps = {"kudari": ours(name, params)}
    rival = fastest(name, params)
    if rival:
        steps[rival] = rivals(name)[0][rival](params).step
    x = torch.randn(sum(p.numel() for p in params))
    steps["mul_"] = functools.partial(x.mul_, 1.0000001)
    # Ten steps hold one renewal of the factors; Muon has none, and torch's takes seconds in bfloat16.
    times = race(steps, repeats, 10 if name in ("SOAP", "Shampoo") else 1)
    size = 0 if matrices else describe(kudari.optim.get(name).rule, options(name)).bytes_per_parameter
    del steps, params, x
    gc.collect()
    small = race(
        {
            "kudari": ours(name, parameters(SMALL)),
            "AdamW": torch.optim.AdamW(parameters(SMALL), fused=True).step,
        },
        repeats,
        3,
    )
    return Row(
        name=name,
        bytes=size,
        share=size / 8 * ratio(times, "mul_", "kudari") if size else float("nan"),
        limit=0.75 if name in REDUCING else 0.85,
        rival=rival,
        ours_ms=statistics.median(times["kudari"]) * 1e3,
        rival_ms=statistics.median(times[rival]) * 1e3 if rival else float("nan"),
        times_faster=ratio(times, rival, "kudari") if rival else float("nan"),
        small_ms=statistics.median(small["kudari"]) * 1e3,
        small_ratio=ratio(small, "kudari", "AdamW"),
    )


def verdicts(row: Row) -> list[str]:
    """What the row misses of what is asked for."""
    missed = []
    if row.share < row.limit:
        missed.append(f"share below {row.limit}")
    least = 1.0 if row.name in (*TORCH_FUSES, *MATRIX_RULES) else 3.0
    if row.times_faster < least:
        missed.append(f"less than {least:g} times as fast")
    return missed


def line(row: Row) -> str:
    """A row for the terminal."""
    share = f"{row.share:5.2f}" if row.bytes else "    -"
    rival = (
        f"{row.rival_ms:8.1f}  {row.times_faster:5.2f}x  {row.rival}"
        if row.rival
        else "       -      -  none"
    )
    missed = "; ".join(verdicts(row))
    return (
        f"{row.name:18} {row.bytes or '-':>4} {share}  {row.ours_ms:8.1f} {rival:37} {row.small_ms:7.2f} "
        f"{row.small_ratio:6.2f}  {'MISSED: ' + missed if missed else 'holds'}"
    )


def machine() -> str:
    """What the figures were measured on."""
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}, Python {platform.python_version()}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some optimizers")
    parser.add_argument("--repeats", type=int, default=7, help="turns (default 7)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    chosen = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    names = chosen.only or list(kudari.optim.CLASSES)
    missing = sorted({package for name in names for package in rivals(name)[1]})
    if missing:
        print(f"Not installed, hence not raced: {', '.join(missing)}. make bench-step installs them.")
    print(machine())
    print("                           64M parameters in 16 matrices                     500 x 1,000")
    print("optimizer          byte share        ms   rival's  faster  rival               ms  /AdamW fused")
    rows = []
    for name in names:
        rows.append(measure(name, chosen.repeats))
        print(line(rows[-1]), flush=True)
    if chosen.json:
        chosen.json.write_text(
            json.dumps({"machine": machine(), "rows": [asdict(r) for r in rows]}, indent=1)
        )


if __name__ == "__main__":
    main()
