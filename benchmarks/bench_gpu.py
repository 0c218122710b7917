"""A step on a GPU against torch's fused, foreach and compiled optimizers, in one process and by turns.

    make bench-gpu
    python benchmarks/bench_gpu.py --rules AdamW Lion LAMB --repeats 30

Two figures for each contestant. Share of copy bandwidth: the necessary bytes of the step (each array once) a
second, over those of ``y.copy_(x)``, on 64M float32 parameters in 16 matrices, by CUDA events. Host time: how
long ``step()`` keeps the Python thread, for the 161 tensors of a ResNet-50, with the device idle before it.
Every repeat times each contestant once, in an order that rotates; medians with the range are printed.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import time
import warnings
from collections.abc import Callable

import torch

import kudari.optim
from kudari.optim.describe import program

Steps = dict[str, Callable[[], object]]
LARGE = [(2048, 2048)] * 16


def resnet50() -> list[tuple[int, ...]]:
    """Shapes of the parameters of a ResNet-50 with 1000 classes: 161 tensors, 25.6M numbers."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    width_in = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convolutions = [(width, width_in, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                convolutions.append((4 * width, width_in, 1, 1))
            for shape in convolutions:
                shapes += [shape, shape[:1], shape[:1]]
            width_in = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def parameters(shapes: list[tuple[int, ...]]) -> list[torch.nn.Parameter]:
    """Parameters with gradients, the same for everybody."""
    torch.manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(s, device="cuda") * 0.1) for s in shapes]
    for p in made:
        p.grad = torch.randn_like(p) * 0.01
    return made


def contestants(name: str, shapes: list[tuple[int, ...]], compiled: bool) -> Steps:
    """Ours with states in float32 and in 8 bits, and torch's of the same name in each form it has."""
    ours = getattr(kudari.optim, name)
    steps: Steps = {"kudari": ours(parameters(shapes), lr=1e-4).step}
    steps["kudari 8bit"] = ours(parameters(shapes), lr=1e-4, state_dtype="8bit").step
    theirs = getattr(torch.optim, name, None)
    if theirs is None:
        return steps
    for form in ("fused", "foreach"):
        try:
            steps[f"torch {form}"] = theirs(parameters(shapes), lr=1e-4, **{form: True}).step
        except (RuntimeError, TypeError):
            print(f"  torch has no {form} {name}")
    if compiled:
        steps["torch compiled"] = torch.compile(theirs(parameters(shapes), lr=1e-4).step, fullgraph=False)
    return steps


def copying(shapes: list[tuple[int, ...]]) -> Callable[[], object]:
    """A copy of as many numbers."""
    x = torch.randn(sum(math.prod(s) for s in shapes), device="cuda")
    y = torch.empty_like(x)
    return lambda: y.copy_(x)


def rotate(names: list[str], by: int) -> list[str]:
    """Another one first at every repeat."""
    by %= len(names)
    return names[by:] + names[:by]


def device_seconds(steps: Steps, repeats: int) -> dict[str, list[float]]:
    """Time between two events on the device around one step."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(-5, repeats):
        for name in rotate(list(steps), repeat):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            # Keeps the device busy until the whole step is queued, so that launches are not what is timed.
            torch.cuda._sleep(20_000_000)
            before.record()
            steps[name]()
            after.record()
            torch.cuda.synchronize()
            if repeat >= 0:
                times[name].append(before.elapsed_time(after) / 1e3)
    return times


def host_seconds(steps: Steps, repeats: int) -> dict[str, list[float]]:
    """How long a call of step keeps the host, with nothing queued before it."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(-20, repeats):
        for name in rotate(list(steps), repeat):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            steps[name]()
            taken = time.perf_counter() - begin
            if repeat >= 0:
                times[name].append(taken)
    torch.cuda.synchronize()
    return times


def show(times: dict[str, list[float]], unit: float, suffix: str, note: Callable[[str], str]) -> None:
    """A row for each contestant: median, range, and what it means."""
    for name, found in times.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        row = f"  {name:15} {middle * unit:9.1f} {suffix}  ({low * unit:.1f} to {high * unit:.1f})"
        print(f"{row}  {note(name)}")


def ratio(times: dict[str, list[float]], a: str, b: str) -> float:
    """Median over repeats of a's time over b's, each pair measured back to back."""
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def report(name: str, repeats: int, compiled: bool) -> None:
    """Measure one optimizer."""
    moved = program(kudari.optim.get(name).rule).bytes_per_parameter
    print(f"\n{name}, float32, {moved:g} bytes a parameter")
    times = device_seconds({**contestants(name, LARGE, compiled), "copy": copying(LARGE)}, repeats)
    print(" 64M parameters in 16 matrices, on the device:")
    other = ("copy", "kudari 8bit")  # which moves fewer bytes
    show(
        times,
        1e6,
        "us",
        lambda n: f"share of copy {moved / 8 * ratio(times, 'copy', n):.2f}" * (n not in other),
    )
    torch.cuda.empty_cache()
    times = host_seconds(contestants(name, resnet50(), compiled), 10 * repeats)
    print(" ResNet-50, 161 tensors, on the host:")
    show(times, 1e6, "us", lambda n: f"{ratio(times, n, 'kudari'):.2f} of ours")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--rules", nargs="+", default=["AdamW", "Lion", "LAMB", "Adafactor"], help="optimizers to time"
    )
    parser.add_argument("--repeats", type=int, default=20, help="timed rounds (default 20)")
    parser.add_argument(
        "--no-compiled", action="store_true", help="leave torch.compile out (it takes minutes)"
    )
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("No CUDA device here; this benchmark needs one.")
    warnings.simplefilter("error", kudari.optim.EagerFallbackWarning)
    import triton

    name = torch.cuda.get_device_name()
    print(
        f"{name}, torch {torch.__version__}, Triton {triton.__version__}, Python {platform.python_version()}"
    )
    assert len(resnet50()) == 161
    for rule in chosen.rules:
        report(rule, chosen.repeats, not chosen.no_compiled)


if __name__ == "__main__":
    main()
