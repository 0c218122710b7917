"""What watching costs: step time with the doctor over step time without, and its start over plain Python's.

    PYTHONPATH=src python benchmarks/bench_doctor.py [--steps 75] [--rounds 20]

Short blocks of plain and watched steps alternate, so that a machine that slows down slows both: each pair
of blocks gives a ratio of their medians. Printed are the median of those ratios with its quartiles, and the
ratio of the means over all steps. Times are seconds of the one thread that works (waiting for a busy machine
is not counted). The first 100 steps of a run, which are all watched in full, are outside the timing, and the
ratio for those from the 25th on is printed last; the sampled every 25th is inside. The start is that of
``kudari doctor SCRIPT`` less that of ``python SCRIPT``, for a script of three steps, by turns, in seconds of
the CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import torch
from torch import nn

import kudari.doctor

SAMPLED, WARM_STEPS = 25, {False: 5, True: 102}
LIMIT, START_LIMIT = 1.05, 0.3
SCRIPT = """\
import torch
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    net(torch.randn(8, 4)).pow(2).mean().backward()
    optimizer.step()
"""


def mlp() -> tuple[nn.Module, Callable[[], tuple[torch.Tensor, torch.Tensor]]]:
    """Nine layers of width 256 on 64 features."""
    layers: list[nn.Module] = [nn.Linear(64, 256), nn.ReLU()]
    for _ in range(7):
        layers += [nn.Linear(256, 256), nn.ReLU()]
    x, y = torch.randn(128, 64), torch.randint(0, 10, (128,))
    return nn.Sequential(*layers, nn.Linear(256, 10)), lambda: (x, y)


def cnn() -> tuple[nn.Module, Callable[[], tuple[torch.Tensor, torch.Tensor]]]:
    """Three convolutions with batch norm on 16x16 pictures."""
    layers: list[nn.Module] = []
    for a, b in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
    x, y = torch.randn(32, 3, 16, 16), torch.randint(0, 10, (32,))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), lambda: (x, y)


def transformer() -> tuple[nn.Module, Callable[[], tuple[torch.Tensor, torch.Tensor]]]:
    """Two encoder layers of width 64 on 32 positions."""
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    x, y = torch.randn(16, 32, 64), torch.randint(0, 10, (16, 32))
    body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = body, nn.Linear(64, 10)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(tokens)).transpose(1, 2)

    return Tagger(), lambda: (x, y)


def block(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Callable, steps: int, watched: bool
) -> list[float]:
    """Seconds of every step of one block."""
    times = []
    with kudari.doctor.watch(model, optimizer) if watched else contextlib.nullcontext():
        for _ in range(WARM_STEPS[watched] + steps):
            began = thread_time()
            x, y = batch()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            times.append(thread_time() - began)
    return times


def measure(build: Callable, steps: int, rounds: int) -> tuple[float, list[float], float, float]:
    """Median step in ms without the doctor, quartiles of the rounds' ratios, ratio of means, of the first."""
    torch.manual_seed(0)
    model, batch = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    plain: list[float] = []
    watched: list[float] = []
    ratios, firsts = [], []
    for turn in range(rounds):
        order = (False, True) if turn % 2 else (True, False)
        whole = {kind: block(model, optimizer, batch, steps, watched=kind) for kind in order}
        taken = {kind: times[WARM_STEPS[kind] :] for kind, times in whole.items()}
        first = whole[True][SAMPLED : WARM_STEPS[True] - 2]
        firsts.append(statistics.median(first) / statistics.median(taken[False]))
        plain += taken[False]
        watched += taken[True]
        ratios.append(statistics.median(taken[True]) / statistics.median(taken[False]))
    cut = sorted(plain)[: int(0.99 * len(plain))], sorted(watched)[: int(0.99 * len(watched))]
    mean = statistics.mean(cut[1]) / statistics.mean(cut[0])
    return 1e3 * statistics.median(plain), statistics.quantiles(ratios), mean, statistics.median(firsts)


def start_up(turns: int) -> tuple[float, float, float]:
    """CPU seconds of a script of three steps: plain, under the doctor (medians), and the median difference.

    A plain turn and one under the doctor stand side by side, because torch's own start varies by more than
    what is looked for. Bytecode is written as after any installation, whatever the environment says: torch's
    is there already, and without ours every start would compile our sources anew.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pairs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        script.write_text(SCRIPT)

        def seconds(*words: str) -> float:
            began = resource.getrusage(resource.RUSAGE_CHILDREN)
            words = (sys.executable, *words, str(script))
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            return ended.ru_utime - began.ru_utime + ended.ru_stime - began.ru_stime

        for _ in range(turns + 1):
            pairs.append((seconds(), seconds("-m", "kudari", "doctor")))
    pairs = pairs[1:]  # the first pair fills the caches of the disk
    plain, watched = (statistics.median(side) for side in zip(*pairs, strict=True))
    return plain, watched, statistics.median(under - over for over, under in pairs)


def main() -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=75)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--turns", type=int, default=9, help="starts of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, torch {torch.__version__}, 1 thread, {args.rounds} rounds")
    print(f"{'model':14s} {'step ms':>8s} {'median':>8s} {'quartiles':>15s} {'mean':>8s} {'first':>8s}")
    for build in (mlp, cnn, transformer):
        step, (low, middle, high), mean, first = measure(build, args.steps, args.rounds)
        told = f"{'holds' if middle <= LIMIT else 'MISSED'} (at most {LIMIT})"
        ratios = f"{middle:7.3f}x {low:7.3f} {high:7.3f} {mean:7.3f}x {first:7.3f}x"
        print(f"{build.__name__:14s} {step:8.2f} {ratios}  {told}")
    plain, watched, more = start_up(args.turns)
    told = f"{'holds' if more <= START_LIMIT else 'MISSED'} (at most {START_LIMIT})"
    print(f"start: {plain:.2f} s plain, {watched:.2f} s under the doctor, by pairs {more:+.2f} s  {told}")


if __name__ == "__main__":
    main()
