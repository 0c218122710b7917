"""What this machine and this Python offer. Torch is asked only where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GIB = 2**30
FEATURES = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "neon", "asimd", "sve")
PACKAGES = (
    "torch", "triton", "llvmlite", "numpy", "safetensors", "rich", "pyyaml", "pydantic", "pillow",
    "pandas", "pyarrow", "scikit-learn",
)  # fmt: skip


@dataclass(frozen=True)
class Gpu:
    """One graphics card; memory in GiB."""

    name: str
    free_gib: float
    memory_gib: float
    capability: str


@dataclass(frozen=True)
class Machine:
    """Everything ``kudari env`` prints.

    Attributes:
        python, executable, system: of this process.
        cpu, features: processor's name and the vector instructions that matter.
        cores: cores of the machine.
        usable_cores: cores that this process may run on (affinity).
        core_limit: cores' worth of time that a container grants, None for no limit.
        memory_gib, free_memory_gib: of the machine or the container, whichever is less; None where it cannot
        be read. packages: versions, None for what is not installed.
        torch_threads: torch's setting in this environment, None without torch.
        cuda: version that torch was built for, empty for none.
        driver: NVIDIA driver on this machine, empty for none.
        gpus: cards that torch can use.
        mps: whether torch can use an Apple GPU.
        torch_error: why torch could not be asked, empty where it could.
    """

    python: str
    executable: str
    system: str
    cpu: str
    features: tuple[str, ...]
    cores: int
    usable_cores: int
    core_limit: float | None
    memory_gib: float | None
    free_memory_gib: float | None
    packages: dict[str, str | None]
    torch_threads: int | None = None
    cuda: str = ""
    driver: str = ""
    gpus: tuple[Gpu, ...] = field(default=())
    mps: bool = False
    torch_error: str = ""

    @property
    def threads(self) -> int:
        """The most threads a run would use."""
        limit = (
            self.usable_cores
            if self.core_limit is None
            else min(self.usable_cores, max(1, int(self.core_limit)))
        )
        return max(1, min(limit, self.torch_threads or limit))

    def verdict(self) -> str:
        """One sentence on what training would use."""
        if self.torch_error:
            return f"Nothing can be trained here yet: {self.torch_error}"
        if self.gpus:
            gpu = self.gpus[0]
            return (
                f"Training would use {gpu.name} (cuda:0), with {gpu.free_gib:.1f} of {gpu.memory_gib:.1f} "
                f"GiB free; "
                "device=cpu leaves it alone."
            )
        threads = f"up to {self.threads} threads" if self.threads > 1 else "one thread"
        why = "torch sees no GPU"
        if self.driver and not self.cuda:
            why = f"there is an NVIDIA driver ({self.driver}), but this torch was built for CPUs only"
        elif self.driver:
            why = f"there is an NVIDIA driver ({self.driver}), but torch (CUDA {self.cuda}) finds no GPU"
        elif self.mps:
            why = "an Apple GPU is used only when asked for, with device=mps"
        small = "; small models run on one, where they are fastest" if self.threads > 1 else ""
        return f"Training would use the CPU with {threads} ({why}){small}."


def version() -> str:
    """Version of Kudari."""
    # Not `import kudari`: the names it offers to type checkers would count as imports of every room.
    return str(importlib.import_module("kudari").__version__)


def inspect_machine() -> Machine:
    """Look around; never raises because something is missing."""
    total, free = _memory()
    return Machine(
        python=platform.python_version(),
        executable=sys.executable,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu_name(),
        features=_features(),
        cores=os.cpu_count() or 1,
        usable_cores=_usable_cores(),
        core_limit=_core_limit(),
        memory_gib=total,
        free_memory_gib=free,
        packages={name: _version(name) for name in PACKAGES},
        driver=_driver(),
        **_torch(),
    )


def _version(package: str) -> str | None:
    import importlib.metadata  # brings the whole of email: a fifth of the time of --help

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: str | Path) -> str:
    """A small file of the system, empty where it is not there or may not be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cpu_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Model name")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _features() -> tuple[str, ...]:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("flags", "Features")):
            flags = set(line.partition(":")[2].split())
            return tuple(name for name in FEATURES if name in flags)
    return ()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _core_limit() -> float | None:
    """Of the container: cgroup v2, then v1."""
    quota, _, period = _read(_cgroup("cpu.max")).partition(" ")
    if not quota:
        quota = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        return int(quota) / int(period)
    return None


def _cgroup(name: str) -> Path:
    """A control file of this process's own group where it is visible, else of the root group."""
    root = Path("/sys/fs/cgroup")
    for line in _read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            own = root / line[3:].lstrip("/") / name
            if own.is_file():
                return own
    return root / name


def _memory() -> tuple[float | None, float | None]:
    """Total and free memory in GiB; a container's limit counts as the total where it is lower."""
    info = {}
    for line in _read("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if rest.split():
            info[name] = int(rest.split()[0]) * 1024
    total, free = info.get("MemTotal"), info.get("MemAvailable")
    if total is None or free is None:
        return None, None
    limit = _first_number(_read(_cgroup("memory.max")), _read("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    used = _first_number(
        _read(_cgroup("memory.current")), _read("/sys/fs/cgroup/memory/memory.usage_in_bytes")
    )
    if limit is not None and limit < total:
        total, free = limit, min(free, max(0, limit - (used or 0)))
    return total / GIB, free / GIB


def _first_number(*texts: str) -> int | None:
    return next((int(text) for text in texts if text.isdigit()), None)


def _driver() -> str:
    """Version of the NVIDIA driver, which torch does not tell."""
    for line in _read("/proc/driver/nvidia/version").splitlines():
        if line.startswith("NVRM"):
            return next((w for w in line.split() if w[0].isdigit() and "." in w), "")
    return ""


def _torch() -> dict[str, Any]:
    if importlib.util.find_spec("torch") is None:
        return {"torch_error": "torch is not installed. Install it with: pip install torch"}
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"torch_error": f"torch is installed but cannot be loaded ({error})."}
    return {
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda or "",
        "gpus": tuple(_gpus(torch)),
        "mps": torch.backends.mps.is_available(),
    }


def _gpus(torch: Any) -> Iterable[Gpu]:
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        major, minor = torch.cuda.get_device_capability(index)
        yield Gpu(torch.cuda.get_device_name(index), free / GIB, total / GIB, f"{major}.{minor}")
