"""Time of one optimizer step, ours against torch's, in one process and by turns: read the ratios.

    make bench-step
    python benchmarks/bench_step.py --only mlp --repeats 50

Every repeat times each contestant once, in an order that rotates; medians are reported. "Share of bandwidth"
is the necessary bytes of the step (each array once) per second, over those of an in-place ``x.mul_(c)`` of
the same number of elements. The MLP runs on one thread, as small models should.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

import kudari.optim

Steps = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Workload:
    """Tensors to update.

    Attributes:
        title: for the table.
        shapes: of the parameters.
        inner: steps timed together.
        limit: highest allowed ratio to torch's fused AdamW.
        one_thread: whether everybody runs on one thread.
    """

    title: str
    shapes: list[tuple[int, ...]]
    inner: int
    limit: float
    one_thread: bool = False


WORKLOADS = {
    "mlp": Workload("digits MLP 64-128-10, 4 tensors", [(128, 64), (128,), (10, 128), (10,)], 200, 0.4, True),
    "many": Workload("500 tensors of 1,000", [(1000,)] * 500, 5, 0.5),
    "large": Workload("64M parameters in 16 tensors", [(4 * 1024 * 1024,)] * 16, 1, 1.05),
}


def parameters(shapes: list[tuple[int, ...]]) -> list[torch.nn.Parameter]:
    """Parameters with gradients, the same for everybody."""
    torch.manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(s) * 0.1) for s in shapes]
    for p in made:
        p.grad = torch.randn_like(p) * 0.01
    return made


def race(steps: Steps, repeats: int, inner: int) -> dict[str, list[float]]:
    """Seconds of each contestant, one entry a repeat; who goes first rotates."""
    names = list(steps)
    for name in names:
        for _ in range(3):
            steps[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            start = time.perf_counter()
            for _ in range(inner):
                steps[name]()
            times[name].append((time.perf_counter() - start) / inner)
    return times


def ratio(times: dict[str, list[float]], a: str, b: str) -> float:
    """Median over repeats of a's time over b's, each pair measured back to back."""
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def contestants(work: Workload) -> Steps:
    """Ours, torch's fused and foreach; the large ones share parameters, to fit into memory."""
    params = parameters(work.shapes)
    large = sum(p.numel() for p in params) > 10_000_000
    again = (lambda: params) if large else (lambda: parameters(work.shapes))
    steps: Steps = {"kudari": kudari.optim.AdamW(params).step}
    steps["torch fused"] = torch.optim.AdamW(again(), fused=True).step
    if large:
        x = torch.randn(sum(p.numel() for p in params))
        steps["mul_"] = lambda: x.mul_(1.0000001)
    else:
        steps["torch foreach"] = torch.optim.AdamW(again(), foreach=True).step
    return steps


def clipped() -> Steps:
    """The large step with the gradient's norm held to 1, inside ours and beside torch's."""
    params = parameters(WORKLOADS["large"].shapes)
    theirs = torch.optim.AdamW(params, fused=True)

    def beside() -> None:
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        theirs.step()

    ours = kudari.optim.fuse(kudari.optim.AdamW(params), clip_norm=1.0)
    return {"kudari": ours.step, "torch fused": beside}


def verdict(found: float, limit: float, at_least: bool = False) -> str:
    """The figure beside its limit."""
    good = found >= limit if at_least else found <= limit
    return f"{'holds' if good else 'MISSED'} ({'at least' if at_least else 'at most'} {limit})"


def report(key: str, repeats: int, threads: int) -> None:
    """Measure one workload and print its rows."""
    work = WORKLOADS[key]
    threads = 1 if work.one_thread else threads
    torch.set_num_threads(threads)
    times = race(contestants(work), repeats, work.inner)
    print(f"\n{work.title}  ({repeats} repeats, {threads} threads)")
    for name, found in times.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        print(f"  {name:14} {middle * 1e6:10.1f} us   ({low * 1e6:.1f} to {high * 1e6:.1f})")
    to_torch = ratio(times, "kudari", "torch fused")
    print(f"  AdamW / torch fused: {to_torch:.3f}   {verdict(to_torch, work.limit)}")
    if "mul_" in times:
        share = (28 / 8) * ratio(times, "mul_", "kudari")
        print(f"  share of bandwidth:  {share:.3f}   {verdict(share, 0.85, at_least=True)}")
        found = ratio(race(clipped(), repeats, 1), "kudari", "torch fused")
        print(f"  clipped to a norm, ours inside the step / theirs beside it: {found:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=WORKLOADS, help="one workload")
    parser.add_argument("--repeats", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default all)"
    )
    chosen = parser.parse_args()
    print(
        f"AdamW, float32. torch {torch.__version__}, {chosen.threads} threads, {platform.machine()}, "
        f"{torch.backends.cpu.get_cpu_capability()}, Python {platform.python_version()}"
    )
    for key in [chosen.only] if chosen.only else WORKLOADS:
        report(key, chosen.repeats, chosen.threads)


if __name__ == "__main__":
    main()
