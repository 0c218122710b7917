"""Time to the first step: of the import, and of every rule with and without its kernel on disk.

    PYTHONPATH=src python benchmarks/bench_compile.py [--repeats 5]

Each repeat starts two new processes that share an empty cache folder; the first one compiles, the second one
finds the kernels. Reported are medians over repeats, in milliseconds of the one thread that works, so that a
busy machine counts less. A process pays once to load LLVM; that is shown apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

LIMIT_COLD_MS, LIMIT_DISK_MS, LIMIT_IMPORT_MS = 150.0, 10.0, 150.0

WORKER = """
import gc, json, time
import torch
torch.set_num_threads(1)
clock = time.thread_time
begin = clock()
import kudari.optim
found = {"import": clock() - begin}
from kudari.compile.cpu import target
begin = clock()
target()
found["load LLVM"] = clock() - begin
for rule in kudari.optim.rules():
    p = torch.nn.Parameter(torch.ones(64, 32))
    (torch.ones(8, 64) @ p).sum().backward()  # as before any step; torch's first product takes a millisecond
    optimizer = kudari.optim.get(rule.name)([p])
    getattr(optimizer, "train", int)()
    gc.collect()  # no rule pays for what the import has left
    begin = clock()
    optimizer.step()
    found[rule.name] = clock() - begin
print(json.dumps(found))
"""


def worker(folder: str) -> dict[str, float]:
    """Milliseconds of everything in a new process that keeps its kernels in a folder."""
    env = {**os.environ, "KUDARI_CACHE": folder, "OMP_NUM_THREADS": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, "-c", WORKER], env=env, capture_output=True, text=True, check=True)
    return {name: 1000 * seconds for name, seconds in json.loads(done.stdout.splitlines()[-1]).items()}


def main() -> int:
    """Print one line a rule; 1 if a limit is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    cold, disk = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(worker(folder))
            disk.append(worker(folder))
    print(f"{platform.processor() or platform.machine()}, median of {repeats}, ms (least to most)")
    failed = []
    for name in cold[0]:
        first, second = ([run[name] for run in runs] for runs in (cold, disk))
        # The first process may also have to write bytecode, which an installed package has.
        text = f"{name:20} {_spread(second if name == 'import' else first)}"
        if name == "import":
            limits = ((second, LIMIT_IMPORT_MS),)
        elif name == "load LLVM":
            limits = ()
        else:
            text += f"   from disk {_spread(second)}"
            limits = ((first, LIMIT_COLD_MS), (second, LIMIT_DISK_MS))
        over = [limit for times, limit in limits if statistics.median(times) > limit]
        failed += [name] if over else []
        print(text + "".join(f"   over {limit:g}" for limit in over))
    return 1 if failed else 0


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):7.1f} ({min(times):.1f} to {max(times):.1f})"


if __name__ == "__main__":
    sys.exit(main())
