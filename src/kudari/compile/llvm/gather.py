"""Loads of elements that do not lie side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kudari.compile.program import BYTES, Float

if TYPE_CHECKING:
    from kudari.compile.llvm.block import Block

_STORED: dict[Float, tuple[str, str]] = {
    "f64": ("double", "f64"), "f32": ("float", "f32"), "bf16": ("i16", "i16"), "f16": ("half", "f16"),
}  # fmt: skip


def gather(block: Block, dtype: Float, start: str, offset: str, step: int, mask: str) -> str:
    """Load elements ``step`` apart, widened to the type of the arithmetic.

    Args:
        block: where the code goes.
        dtype: how the elements are stored.
        start: address of element 0.
        offset: number of the first wanted one among every ``step``-th.
        step: from one to the next.
        mask: which lanes are wanted; empty for all.
    """
    width = block.width
    element, suffix = _STORED[dtype]
    stored, pointers = block.vector(element), block.vector("ptr")
    first = block.emit(f"mul i64 {offset}, {step}")
    base = block.emit(f"getelementptr {element}, ptr {start}, i64 {first}")
    lanes = f"<{', '.join(f'i64 {k * step}' for k in range(width))}>"
    places = block.emit(f"getelementptr {element}, ptr {base}, <{width} x i64> {lanes}")
    wanted = mask or "splat (i1 true)"
    name = f"@llvm.masked.gather.v{width}{suffix}.v{width}p0"
    block.declared.add(f"declare {stored} {name}({pointers}, i32, {block.mask}, {stored})")
    raw = block.emit(
        f"call {stored} {name}({pointers} {places}, i32 {BYTES[dtype]}, {block.mask} {wanted}, "
        f"{stored} zeroinitializer)"
    )
    return block.widen(dtype, raw)
