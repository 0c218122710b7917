"""What printed kernels call: functions that Triton has only through NVIDIA's libdevice, or not at all.

They are written with plain arithmetic, so that every vendor's GPU and Triton's interpreter give the same
answer. Needs Triton; nothing but printed kernels and their launcher imports it.
"""

import triton
import triton.language as tl

if triton.knobs.runtime.interpret:

    @triton.jit
    def fma(a, b, c):
        """a*b + c with one rounding, as on a GPU: of two float32 numbers the product is exact in float64.

        Triton's interpreter rounds twice.
        """
        if a.dtype == tl.float32:
            return (a.to(tl.float64) * b.to(tl.float64) + c.to(tl.float64)).to(tl.float32)
        return a * b + c
else:

    @triton.jit
    def fma(a, b, c):
        """a*b + c with one rounding."""
        return tl.fma(a, b, c)


@triton.jit
def sign(x):
    """-1 or 1, and x itself where it is zero or NaN."""
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, x))


@triton.jit
def power(x, y):
    """x to the power y as IEEE 754 has it, computed in float64 and rounded to the type of x."""
    base = x.to(tl.float64)
    exponent = y.to(tl.float64)
    size = tl.exp(exponent * tl.log(tl.abs(base)))
    half = exponent * 0.5
    # Of a negative base: plus for an even exponent, minus for an odd one, nothing for a fraction.
    odd = tl.where(tl.floor(exponent) == exponent, size * -1.0, float("nan"))
    signed = tl.where(tl.floor(half) == half, size, odd)
    found = tl.where(base < 0, signed, size)
    return tl.where(exponent == 0, 1.0, tl.where(base == 1, 1.0, found)).to(x.dtype)


@triton.jit
def ratio_of(y, x):
    """The smaller of |y| and |x| over the larger one: 0 of zeros, 1 of infinities, NaN where one is NaN."""
    height = tl.abs(y)
    width = tl.abs(x)
    small = tl.where(width < height, width, height)
    big = tl.where(height > width, height, width)
    if y.dtype == tl.float64:
        big = tl.where(big < 5e-324, 5e-324, big)
        ratio = small / big
    else:
        big = tl.where(big < 1.401298464324817e-45, 1.401298464324817e-45, big)
        ratio = tl.div_rn(small, big)
    return tl.where(small == big, 1.0, ratio)


@triton.jit
def angle_of(y, x, part):
    """The angle of the point (x, y), from -pi to pi, by the arc tangent of :func:`ratio_of`."""
    steep = tl.abs(y) > tl.abs(x)
    # Pi and its half are two numbers: what float32 and float64 have of them, and what is missing.
    if y.dtype == tl.float64:
        angle = tl.where(steep, (6.123233995736766e-17 - part) + 1.5707963267948966, part)
        turned = (1.2246467991473532e-16 - angle) + 3.141592653589793
        angle = tl.where(x.to(tl.int64, bitcast=True) < 0, turned, angle)  # also -0, as IEEE 754 has it
        sign = y.to(tl.uint64, bitcast=True) & 0x8000000000000000
        found = (angle.to(tl.uint64, bitcast=True) | sign).to(tl.float64, bitcast=True)
    else:
        angle = tl.where(steep, (-4.371139006309477e-08 - part) + 1.5707963267948966, part)
        turned = (-8.742278012618954e-08 - angle) + 3.141592653589793
        angle = tl.where(x.to(tl.int32, bitcast=True) < 0, turned, angle)
        sign = y.to(tl.uint32, bitcast=True) & 0x80000000
        found = (angle.to(tl.uint32, bitcast=True) | sign).to(tl.float32, bitcast=True)
    return found


@triton.jit
def add_up(partials, firsts, sums, skip, FIRST: tl.constexpr, SUMS: tl.constexpr, WIDTH: tl.constexpr):
    """Add up what the blocks of a tensor have summed, always in the same order; grid (tensors, sums)."""
    row = tl.program_id(0)
    column = FIRST + tl.program_id(1)
    if tl.load(skip) == 0:
        begin = tl.load(firsts + row)
        end = tl.load(firsts + row + 1)
        index = tl.arange(0, WIDTH)
        total = tl.zeros([WIDTH], tl.float64)
        for at in range(begin, end, WIDTH):
            place = at + index
            total += tl.load(partials + place * SUMS + column, mask=place < end, other=0.0)
        tl.store(sums + row * SUMS + column, tl.sum(total))


@triton.jit
def fold(
    folds, slots, skip, SLOTS: tl.constexpr, TYPE: tl.constexpr, LINES: tl.constexpr, DEPTH: tl.constexpr
):
    """Add up what tiles have summed for some rows or columns of a tensor, in the order of the tiles.

    Grid (folds,). The sums of the first tile lie behind the tensor's, those of the second behind them.
    """
    if tl.load(skip) == 0:
        mine = folds + tl.program_id(0) * 5
        at = tl.load(slots + tl.load(mine) * SLOTS + tl.load(mine + 1)).to(tl.pointer_type(TYPE))
        lines = tl.load(mine + 3)
        depth = tl.load(mine + 4)
        line = tl.load(mine + 2) + tl.arange(0, LINES)[None, :]
        total = tl.zeros([DEPTH, LINES], tl.float64)
        for first in range(0, depth, DEPTH):
            tile = first + tl.arange(0, DEPTH)[:, None]
            wanted = (tile < depth) & (line < lines)
            total += tl.load(at + (tile + 1) * lines + line, mask=wanted, other=0.0).to(tl.float64)
        tl.store(at + line, tl.sum(total, axis=0, keep_dims=True).to(TYPE), mask=line < lines)
