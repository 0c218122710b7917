"""``kudari env``: what is installed, what this machine has, and what training would use."""

from __future__ import annotations

import argparse
import dataclasses
import json

from kudari.cli._machine import Machine, inspect_machine, version
from kudari.cli._screen import Screen

HELP = "Show Python, torch, GPUs, CPU, threads and memory, and what training would use."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the machine."""
    machine = inspect_machine()
    if args.json:
        values = {"kudari": version(), **dataclasses.asdict(machine)}
        print(json.dumps({**values, "threads": machine.threads, "verdict": machine.verdict()}))
        return 0
    screen = Screen()
    screen.pairs(rows(machine), indent=0)
    screen.say()
    screen.say(machine.verdict(), style="bold")
    return 0


def rows(machine: Machine) -> list[tuple[str, str]]:
    """Names and values in the order to print."""
    packages = machine.packages
    installed = [f"{name} {version}" for name, version in packages.items() if version and name != "torch"]
    missing = [
        name for name, version in packages.items() if version is None and name not in ("torch", "triton")
    ]
    found = [
        ("kudari", version()),
        ("python", f"{machine.python} ({machine.executable})"),
        ("torch", _torch(machine)),
        *_gpu_rows(machine),
        ("cpu", machine.cpu + (f" ({', '.join(machine.features)})" if machine.features else "")),
        ("cores", _cores(machine)),
        ("memory", _memory(machine)),
        ("system", machine.system),
        ("packages", ", ".join(installed) or "none"),
    ]
    if missing:
        found.append(("not installed", f'{", ".join(missing)} (pip install "kudari[train]" brings them)'))
    return found


def _torch(machine: Machine) -> str:
    version = machine.packages["torch"]
    if machine.torch_error:
        return machine.torch_error
    return f"{version}, {'CUDA ' + machine.cuda if machine.cuda else 'CPU only'}"


def _gpu_rows(machine: Machine) -> list[tuple[str, str]]:
    driver = [("driver", f"NVIDIA {machine.driver}")] if machine.driver else []
    cards = [
        (
            f"cuda:{i}",
            f"{g.name}, {g.free_gib:.1f} of {g.memory_gib:.1f} GiB free, compute capability {g.capability}",
        )
        for i, g in enumerate(machine.gpus)
    ]
    if machine.mps:
        cards.append(("mps", "Apple GPU"))
    return [*driver, *(cards or [("gpu", "none that torch can use")])]


def _cores(machine: Machine) -> str:
    text = f"{machine.cores} in the machine"
    if machine.usable_cores != machine.cores:
        text += f", {machine.usable_cores} open to this process"
    if machine.core_limit is not None:
        text += f", time for {machine.core_limit:g} granted by the container"
    threads = f"; torch is set to {machine.torch_threads} threads" if machine.torch_threads else ""
    return text + threads


def _memory(machine: Machine) -> str:
    if machine.memory_gib is None or machine.free_memory_gib is None:
        return "unknown"
    return f"{machine.free_memory_gib:.1f} of {machine.memory_gib:.1f} GiB free"
