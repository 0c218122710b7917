"""Tiles: how matrices are cut for kernels that go by rows, and where their sums over rows and columns lie.

A tile has a power of two of matrices, rows and columns, as many elements together as any block. Tensors whose
tiles have one shape share a launch; a model has two or three shapes. Borders depend on the tensor alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

# Sides of tiles for matrices that have no more rows or columns than that.
SHORT = (1, 4, 16)
# Lines (rows or columns) that one program of the fold adds up, and sums of tiles that it takes at once.
FOLD_LINES = 16
FOLD_DEPTH = 128


@dataclass(frozen=True)
class Tile:
    """The shape of a tile.

    Attributes:
        matrices, rows, columns: powers of two.
        high, wide: rows and columns that one program computes the numbers of between passes: all that a
            matrix has, or as many as a block has elements.
    """

    matrices: int
    rows: int
    columns: int
    high: int
    wide: int

    @property
    def together(self) -> int:
        """Matrices whose rows and columns one program computes the numbers of."""
        return self.matrices * self.rows * self.columns // max(self.high, self.wide)

    def groups(self, shape: tuple[int, int, int]) -> int:
        """Programs that compute the numbers of a tensor's rows and columns."""
        matrices, rows, columns = shape
        return -(-matrices // self.together) * max(-(-rows // self.high), -(-columns // self.wide))

    def grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Tiles along the matrices, rows and columns of a tensor."""
        matrices, rows, columns = shape
        return -(-matrices // self.matrices), -(-rows // self.rows), -(-columns // self.columns)


def tile_of(shape: tuple[int, int, int], block: int) -> Tile:
    """The tile for a tensor of (matrices, rows, columns), of ``block`` elements.

    Large matrices have tiles that are about square, so that sums of tiles are few either way.

    Example:
        >>> tile_of((1, 4096, 1024), 2048)
        Tile(matrices=1, rows=32, columns=64, high=2048, wide=2048)
        >>> tile_of((4096, 3, 3), 2048)
        Tile(matrices=128, rows=4, columns=4, high=4, wide=4)
    """
    _, height, width = shape
    widest = 1 << (block.bit_length() // 2)
    columns = _side(width, widest)
    highest = block // columns
    rows = _side(height, highest)
    high, wide = rows if rows < highest else block, columns if columns < widest else block
    return Tile(highest // rows, rows, columns, high, wide)


def _side(length: int, most: int) -> int:
    """The shortest side that is long enough, if one below ``most`` is."""
    return next((side for side in SHORT if length <= side < most), most)


@dataclass(frozen=True)
class Launch:
    """What is launched for the tensors whose tiles have one shape.

    Attributes:
        tile: the shape.
        tiles: int64 (n, 2): tensor, and number of the tile within it.
        groups: int64 (m, 2): tensor, and number of the run of lines within it.
        even: whether every matrix is a multiple of 16 wide.
    """

    tile: Tile
    tiles: Int64s
    groups: Int64s
    even: bool


@dataclass(frozen=True)
class TilePlan:
    """The cutting of a list of tensors into tiles.

    Attributes:
        launches: one for each shape of tiles.
        dims: int64 (tensors, 3): matrices, rows and columns.
        firsts: int64 (tensors + 1,): where each tensor's run of tiles begins among those of all tensors.
        depths: int64 (tensors, 2): how many tiles add to one sum over columns (a row's sum), and over rows.
        spans: int64 (tensors, 2): how many programs compute the numbers of a matrix's rows, and columns.
    """

    launches: tuple[Launch, ...]
    dims: Int64s
    firsts: Int64s
    depths: Int64s
    spans: Int64s

    def lines(self, shape: str) -> Int64s:
        """How many rows, or columns, each tensor has over all its matrices."""
        return self.dims[:, 0] * self.dims[:, 1 if shape == "rows" else 2]

    def room(self, shape: str) -> Int64s:
        """Numbers that a sum for each row, or column, needs room for: the sums, then those of the tiles."""
        depths = self.depths[:, 0 if shape == "rows" else 1]
        return self.lines(shape) * np.where(depths > 1, depths + 1, 1)

    def room_for_totals(self, shape: str) -> Int64s:
        """Numbers that sums over whole matrices need room for: one for each line, then parts of the sums."""
        return self.lines(shape) + self.dims[:, 0] * self.spans[:, 0 if shape == "rows" else 1]

    def folds(self, sums: Sequence[tuple[int, str]]) -> Int64s:
        """What is to be added up where several tiles have added to one sum.

        Args:
            sums: place of the slot, and ``"rows"`` or ``"columns"``, of each sum.

        Returns:
            int64 (n, 5): tensor, slot, first line of ``FOLD_LINES``, lines and tiles of each program.
        """
        found: list[tuple[int, ...]] = []
        for slot, shape in sums:
            lines, depths = self.lines(shape), self.depths[:, 0 if shape == "rows" else 1]
            for tensor in np.flatnonzero((depths > 1) & (lines > 0)):
                n, depth = int(lines[tensor]), int(depths[tensor])
                found += [(int(tensor), slot, first, n, depth) for first in range(0, n, FOLD_LINES)]
        return np.array(found, dtype=np.int64).reshape(-1, 5)


def make_tile_plan(shapes: Sequence[tuple[int, int, int]], block: int) -> TilePlan:
    """Cut tensors, given as (matrices, rows, columns), into tiles of ``block`` elements.

    Example:
        >>> plan = make_tile_plan([(2, 3, 3), (1, 5, 9)], block=16)
        >>> [(launch.tile.rows, launch.tile.columns, launch.tiles.tolist()) for launch in plan.launches]
        [(4, 4, [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [1, 3], [1, 4], [1, 5]])]
        >>> plan.firsts.tolist(), plan.depths.tolist()
        ([0, 2, 8], [[1, 1], [3, 2]])
    """
    grids: list[tuple[int, int, int]] = []
    spans: list[tuple[int, int]] = []
    sorts: dict[Tile, list[int]] = {}
    for tensor, shape in enumerate(shapes):
        tile = tile_of(shape, block)
        grids.append(tile.grid(shape))
        spans.append((-(-shape[1] // tile.high), -(-shape[2] // tile.wide)))
        sorts.setdefault(tile, []).append(tensor)
    counts = [across * down * deep for deep, down, across in grids]
    launches = tuple(
        Launch(
            tile,
            _numbered(tensors, [counts[i] for i in tensors]),
            _numbered(tensors, [tile.groups(shapes[i]) for i in tensors]),
            all(shapes[i][2] % 16 == 0 for i in tensors),
        )
        for tile, tensors in sorts.items()
    )
    return TilePlan(
        launches,
        np.array(shapes, dtype=np.int64).reshape(-1, 3),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)]),
        np.array([(across, down) for _, down, across in grids], dtype=np.int64).reshape(-1, 2),
        np.array(spans, dtype=np.int64).reshape(-1, 2),
    )


def _numbered(tensors: Sequence[int], counts: Sequence[int]) -> Int64s:
    """Rows (tensor, number from 0 to its count)."""
    firsts = np.cumsum(counts, dtype=np.int64) - counts
    numbers = np.arange(sum(counts), dtype=np.int64) - np.repeat(firsts, counts)
    return np.stack([np.repeat(np.array(tensors, dtype=np.int64), counts), numbers], axis=1)
