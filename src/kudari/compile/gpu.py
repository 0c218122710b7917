"""The GPU backend: printed Triton kernels, and how the elements of many tensors are cut into blocks.

Triton reads the source of a kernel from its file, so the printed text is kept in the cache folder under a
digest of itself. What the compiler makes of it is in Triton's own cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from kudari.compile import cache
from kudari.compile.program import Program
from kudari.compile.triton import print_triton
from kudari.compile.triton.tiles import FOLD_DEPTH, FOLD_LINES, Launch
from kudari.errors import CompileError

Int64s = npt.NDArray[np.int64]

# Elements of a block: 8 a thread, so two 16-byte loads of float32 and one of bfloat16 for each tensor.
BLOCK = 2048
WARPS = 8
# Sums of blocks that one pass of the second reduction adds up at once.
REDUCE = 1024


@dataclass(frozen=True)
class GpuPlan:
    """The cutting of a list of tensors into blocks.

    Attributes:
        blocks: int64 (n, 2): tensor, and number of the block within it.
        firsts: int64 (tensors + 1,): where each tensor's run of blocks begins; the last is n.
        sizes: int64 (tensors,): number of elements.
    """

    blocks: Int64s
    firsts: Int64s
    sizes: Int64s


def make_gpu_plan(sizes: Sequence[int], block: int = BLOCK) -> GpuPlan:
    """Cut tensors of the given numbers of elements; empty ones get no block.

    Example:
        >>> plan = make_gpu_plan([5, 0, 9], block=4)
        >>> plan.blocks.tolist()
        [[0, 0], [0, 1], [2, 0], [2, 1], [2, 2]]
        >>> plan.firsts.tolist()
        [0, 2, 2, 5]
    """
    lengths = np.array(sizes, dtype=np.int64)
    counts = -(-lengths // block)
    firsts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    tensors = np.repeat(np.arange(len(lengths)), counts)
    blocks = np.stack([tensors, np.arange(firsts[-1]) - firsts[tensors]], axis=1)
    return GpuPlan(np.ascontiguousarray(blocks, dtype=np.int64), firsts, lengths)


@dataclass(frozen=True)
class GpuKernel:
    """A program's kernels, compiled by Triton when they are first launched.

    Attributes:
        program: what they do.
        module: the printed source, loaded.
        block: elements of a block.
        warps: warps that work on a block.
    """

    program: Program
    module: ModuleType
    block: int = BLOCK
    warps: int = WARPS

    def numbers(self, number: int, tensors: int, arguments: Sequence[Any]) -> None:
        """Compute every tensor's numbers for a pass; the first pass counts the step."""
        kernel = getattr(self.module, f"numbers{number}")
        kernel[(tensors,)](*arguments, num_warps=1, enable_fp_fusion=False)

    def elements(self, number: int, blocks: int, arguments: Sequence[Any], aligned: bool) -> None:
        """Run a pass over all blocks.

        Args:
            aligned: whether every address in the table is a multiple of 16.
        """
        # Every fused multiply-add is written out; more of them would make results depend on the compiler.
        options = {"num_warps": self.warps, "enable_fp_fusion": False}
        getattr(self.module, f"pass{number}")[(blocks,)](
            *arguments, BLOCK=self.block, ALIGNED=aligned, **options
        )

    def tiles(self, number: int, launch: Launch, arguments: Sequence[Any], aligned: bool) -> None:
        """Run a pass by rows over all tiles of one shape.

        Args:
            aligned: whether every address in the table is a multiple of 16.
        """
        tile, options = launch.tile, {"num_warps": self.warps, "enable_fp_fusion": False}
        sides = {"MATRICES": tile.matrices, "ROWS": tile.rows, "COLUMNS": tile.columns}
        getattr(self.module, f"pass{number}")[(len(launch.tiles),)](
            *arguments, **sides, ALIGNED=aligned and launch.even, **options
        )

    def vectors(self, number: int, stage: int, launch: Launch, arguments: Sequence[Any]) -> None:
        """Compute what rows and columns have one value of before a pass, up to a sum over whole matrices."""
        tile, options = launch.tile, {"num_warps": self.warps, "enable_fp_fusion": False}
        sides = {"TOGETHER": tile.together, "HIGH": tile.high, "WIDE": tile.wide}
        getattr(self.module, f"vectors{number}_{stage}")[(len(launch.groups),)](
            *arguments, **sides, **options
        )

    def fold(self, count: int, arguments: Sequence[Any]) -> None:
        """Add up what the tiles of a tensor have summed for each row or column."""
        import triton.language as tl

        from kudari.compile.triton.functions import fold

        kind = tl.float64 if self.program.compute == "f64" else tl.float32
        constants = {"SLOTS": len(self.program.slots) + len(self.program.coded), "TYPE": kind}
        fold[(count,)](*arguments, **constants, LINES=FOLD_LINES, DEPTH=FOLD_DEPTH, num_warps=4)

    def sums(self, number: int, tensors: int, arguments: Sequence[Any]) -> None:
        """Add up what the blocks have summed in a pass, tensor by tensor."""
        from kudari.compile.triton.functions import add_up

        part = self.program.passes[number]
        counts = {"FIRST": part.first_sum, "SUMS": len(self.program.sums), "WIDTH": REDUCE}
        add_up[(tensors, len(part.sums))](*arguments, **counts, num_warps=4)


def has_triton() -> bool:
    """Whether Triton is installed; it comes with torch's CUDA builds on Linux."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def compile_gpu(program: Program, block: int = BLOCK, warps: int = WARPS) -> GpuKernel:
    """Print a program's kernels and load them.

    Raises:
        CompileError: if Triton is not installed, or the program has something the printer does not know.
        ValueError: elements that share a scale would lie in two blocks.
    """
    if any(block % s.codec.block for s in program.slots if s.codec):
        raise ValueError(f"Blocks of {block} elements cut scales of {program.coded} in two.")
    if not has_triton():
        raise CompileError("Triton is not installed.", fix='Install it with: pip install "kudari[gpu]"')
    return GpuKernel(program, load_source(program.name, print_triton(program)), block, warps)


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Where sources are kept when there is no cache folder; gone at the end of the process."""
    return tempfile.TemporaryDirectory(prefix="kudari-")


def load_source(name: str, text: str) -> ModuleType:
    """Load printed source from a file that has exactly this text.

    Raises:
        CompileError: if no file can be written.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    module_name = f"kudari_{''.join(c if c.isalnum() else '_' for c in name)}_{digest[:32]}"
    path = _write(f"{module_name}.py", text)
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write(name: str, text: str) -> Path:
    """A file with this text in the cache folder, or in a temporary one if that cannot be written to."""
    place = cache.folder()
    if place is not None:
        with contextlib.suppress(OSError):
            return cache.write_text(place / name, text)
    return cache.write_text(Path(_temporary().name) / name, text)
