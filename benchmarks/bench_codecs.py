"""Time of an AdamW step with low-bit states against our float32 step, in one process and by turns.

    make bench-step     # beside the other steps
    python benchmarks/bench_codecs.py --millions 8 --repeats 5

bitsandbytes and torchao take part if they are installed, two turns each. CPU seconds of the process are
reported beside wall time: they say what a step costs when other work shares the processor.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import time
from collections.abc import Callable

import torch

import kudari.optim

Step = Callable[[], object]
LIMIT = {"8bit": 1.0, "8bit-dynamic": 4.0}
FASTER = 15.0  # than bitsandbytes and torchao, at least
SLOW_TURNS = 2  # theirs take seconds for what takes a tenth of one here


def parameters(millions: int) -> list[torch.nn.Parameter]:
    """16 equal tensors with gradients."""
    torch.manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(millions * 2**20 // 16) * 0.1) for _ in range(16)]
    for p in made:
        p.grad = torch.randn_like(p) * 0.01
    return made


KINDS = ("fp32", "bf16", "8bit", "4bit", "8bit-dynamic")
OTHERS = ("bitsandbytes", "torchao")


def state_bytes(optimizer: torch.optim.Optimizer) -> float:
    """Bytes of all states for each parameter, counters left out."""
    held = [x for state in optimizer.state.values() for key, x in state.items() if key != "step"]
    tensors = [t for x in held for t in ((x["code"], x["scale"]) if isinstance(x, dict) else (x,))]
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    return sum(t.numel() * t.element_size() for t in tensors) / count


def contestants(params: list[torch.nn.Parameter]) -> dict[str, Step]:
    """Our codecs on the same parameters, and others' 8-bit AdamW."""
    steps: dict[str, Step] = {}
    for kind in KINDS:
        optimizer = kudari.optim.AdamW(params, state_dtype=kind)
        optimizer.step()
        print(f"  {kind:14} {state_bytes(optimizer):.3f} bytes of states a parameter")
        steps[kind] = optimizer.step
    for module, name in (("bitsandbytes.optim", "AdamW8bit"), ("torchao.optim", "AdamW8bit")):
        try:
            steps[module.split(".")[0]] = getattr(importlib.import_module(module), name)(params).step
        except Exception as problem:  # not installed, or not made for this machine
            print(f"{module}: {type(problem).__name__}, left out")
    return steps


def race(steps: dict[str, Step], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each contestant; one that fails is left out."""
    for name in list(steps):
        try:
            steps[name]()
        except Exception as problem:
            print(f"{name}: {type(problem).__name__}: {str(problem)[:80]}, left out")
            del steps[name]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(repeats):
        for name, step in steps.items():
            if name in OTHERS and turn >= SLOW_TURNS:
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--millions", type=int, default=64, help="parameters (default 64)")
    parser.add_argument("--repeats", type=int, default=9, help="timed rounds (default 9)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    times = race(contestants(parameters(chosen.millions)), chosen.repeats)
    work = f"AdamW, {chosen.millions}M parameters in 16 tensors"
    print(f"{work}, {chosen.threads} threads, torch {torch.__version__}")
    for name, found in times.items():
        wall = statistics.median(t[0] for t in found)
        pairs = list(zip(found, times["fp32"], strict=False))
        to = [statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1)]
        line = f"  {name:14} {wall * 1e3:9.1f} ms   to fp32: wall {to[0]:.2f}, CPU {to[1]:.2f}"
        if name in LIMIT:
            line += f"   {'holds' if to[0] <= LIMIT[name] else 'MISSED'} (at most {LIMIT[name]})"
        if name in OTHERS:
            ratio = statistics.median(a[0] / b[0] for a, b in zip(found, times["8bit"], strict=False))
            line += f"   8bit is {ratio:.1f} times as fast (at least {FASTER:g})"
        print(line)


if __name__ == "__main__":
    main()
