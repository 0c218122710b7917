"""The CPU backend: compiles a program for this processor and calls it on tables of addresses.

One parallel region serves all tensors of a group. It is forked through the OpenMP runtime that torch has
already loaded, so its threads are torch's own and do not fight them; without that runtime, plain threads do.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kudari.compile import cache
from kudari.compile.llvm import ENTRY, print_llvm
from kudari.compile.program import Program
from kudari.errors import CompileError

if TYPE_CHECKING:
    import llvmlite.binding as binding

_lock = threading.RLock()
_number = itertools.count()
# What LLVM does to a kernel before it chooses instructions.
PASSES = ("instruction_combine", "simplify_cfg")


@dataclass(frozen=True)
class Target:
    """The processor we compile for.

    Attributes:
        cpu: LLVM's name of it.
        features: its instruction sets, as LLVM spells them.
        width: bytes in the widest vector register.
        machine: LLVM's target machine.
    """

    cpu: str
    features: str
    width: int
    machine: Any = field(compare=False, repr=False)


@dataclass(frozen=True)
class CpuKernel:
    """A compiled program.

    Attributes:
        call: ``call(context_address, threads)``; releases the interpreter lock while it runs.
        from_disk: whether the compiler had nothing to do.
        owner: keeps the machine code alive.
    """

    call: Callable[[int, int], None]
    from_disk: bool
    owner: Any = field(repr=False)


def lanes(program: Program) -> int:
    """Elements in a vector of the program's arithmetic."""
    return target().width // (8 if program.compute == "f64" else 4)


@functools.cache
def target() -> Target:
    """Look at this processor, once."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    found = llvm.get_host_cpu_features()
    width = 64 if found.get("avx512f") else 32 if found.get("avx") else 16
    cpu, features = llvm.get_host_cpu_name(), found.flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=2, reloc="pic", codemodel="jitdefault", jit=True
    )
    return Target(cpu, features, width, machine)


@functools.cache
def compile_cpu(program: Program) -> CpuKernel:
    """Compile a program, or take it from the cache on disk.

    Raises:
        CompileError: if the printer does not know an operation, or this processor lacks what the code needs.
    """
    with _lock:
        library, from_disk = machine_code(print_llvm(program, lanes(program)), program.name, (ENTRY,))
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(library[ENTRY])
    return CpuKernel(call, from_disk, library)


def machine_code(text: str, name: str, functions: Sequence[str]) -> tuple[Any, bool]:
    """Compile LLVM IR for this processor, or take it from the cache on disk.

    Args:
        text: the IR; it knows no addresses of this process.
        name: what it is, for debuggers.
        functions: whose addresses are wanted.

    Returns:
        A library, which has the functions' addresses by their names and keeps their code alive, and whether
        the code was on the disk.

    Raises:
        CompileError: the code needs functions that this process lacks.
    """
    import hashlib

    import llvmlite
    import llvmlite.binding as llvm

    with _lock:
        here = target()
        versions = f"{llvmlite.__version__} {llvm.llvm_version_info}"
        decides = [text, here.cpu, here.features, versions, *PASSES]
        key = hashlib.sha256("\n".join(decides).encode()).hexdigest()
        found = cache.load(key)
        data = _build(llvm, text) if found is None else found
        if found is None:
            cache.save(key, data)
        # A library of its own, which goes when the kernel goes. Names of libraries cannot be used again.
        parts = llvm.JITLibraryBuilder().add_object_img(data)
        for function in functions:
            parts = parts.export_symbol(function)
        try:
            return parts.link(_linker(), f"{name} {next(_number)}"), found is not None
        except RuntimeError as error:
            raise CompileError(
                f"LLVM's code for {here.cpu} cannot be loaded: where it calls functions that are not in this "
                "process, as for float16 on processors without instructions for it, there is no kernel.",
            ) from error


@functools.cache
def _linker() -> Any:
    """What puts kernels into memory: one for all of them, as making it takes longer than using it."""
    import llvmlite.binding as llvm

    return llvm.create_lljit_compiler(target().machine)


def _build(llvm: binding, text: str) -> bytes:
    """Machine code of a kernel.

    The printer has made vectors, shared what is common and taken what is constant out of loops, so the
    whole row of passes that ``-O2`` stands for finds nothing to do, in longer than all the rest takes. What
    is left is the arithmetic on bits of rounding and codes, for which there are shorter instructions.
    """
    machine = target().machine
    module = llvm.parse_assembly(text)
    passes = llvm.create_new_module_pass_manager()
    for name in PASSES:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    built: bytes = machine.emit_object(module)
    return built


@functools.cache
def fork_address() -> int:
    """Address of a function like ``GOMP_parallel(body, data, threads, flags)``."""
    for name in _runtimes():
        try:
            # Already in the process where torch has loaded it: this only finds it.
            found = ctypes.CDLL(name, mode=getattr(os, "RTLD_NOLOAD", 0) | ctypes.DEFAULT_MODE).GOMP_parallel
        except (OSError, AttributeError):
            continue
        address = ctypes.cast(found, ctypes.c_void_p).value
        if address:
            return address
    return ctypes.cast(_plain_fork, ctypes.c_void_p).value or 0


def _runtimes() -> tuple[str, ...]:
    """Where torch may have its OpenMP from: GNU's, or on a Mac LLVM's, which has that function too."""
    torch = sys.modules.get("torch")
    folder = Path(torch.__file__ or "").parent if torch else Path()
    return "libgomp.so.1", str(folder / "lib" / "libomp.dylib")


_Body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _fork_plainly(body: int, data: int, threads: int, _flags: int) -> None:
    """The same with Python's threads: the kernel itself runs without the interpreter lock."""
    call = _Body(body)
    helpers = [threading.Thread(target=call, args=(data,)) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    call(data)
    for helper in helpers:
        helper.join()


_plain_fork = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)(
    _fork_plainly
)
