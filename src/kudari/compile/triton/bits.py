"""What printed kernels call to round, to draw and to code: operations on the bits of float32 numbers.

The same operations as the CPU kernel's, bit for bit. Needs Triton; nothing but printed kernels imports it.
"""

import triton
import triton.language as tl


@triton.jit
def read_bfloat16(pointer, mask, MASKED: tl.constexpr):
    """Load bfloat16 numbers, stored as the upper halves of float32 numbers; zero where masked out."""
    bits = tl.load(pointer, mask=mask, other=0) if MASKED else tl.load(pointer)
    return (bits.to(tl.uint32) << 16).to(tl.float32, bitcast=True)


@triton.jit
def round_bfloat16(x):
    """The bits of the nearest bfloat16 number, ties to even; NaN stays NaN."""
    bits = x.to(tl.float32).to(tl.uint32, bitcast=True)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (tl.where(x == x, rounded, bits | 0x400000) >> 16).to(tl.uint16)


@triton.jit
def to_bf16(x):
    """The nearest bfloat16, as float32."""
    return (round_bfloat16(x).to(tl.uint32) << 16).to(tl.float32, bitcast=True)


@triton.jit
def to_f16(x):
    """The nearest float16, ties to even, as float32."""
    return x.to(tl.float16).to(tl.float32)


@triton.jit
def mixed(h):
    """A hash of 32 bits: lowbias32 by Wellons."""
    h = tl.mul(h ^ (h >> 16), 0x21F0AAAD, sanitize_overflow=False)
    h = tl.mul(h ^ (h >> 15), 0xD35A2D97, sanitize_overflow=False)
    return h ^ (h >> 15)


@triton.jit
def random_bits(key, element):
    """32 random bits for each element: a hash of its number and of a key of 64 bits."""
    far = tl.mul((element >> 32).to(tl.uint32), 0x9E3779B9, sanitize_overflow=False)
    start = tl.add(element.to(tl.uint32), key.to(tl.uint32), sanitize_overflow=False)
    start = tl.add(start, far, sanitize_overflow=False)
    return mixed(mixed(start) ^ (key >> 32).to(tl.uint32))


@triton.jit
def stochastic_bf16(x, noise):
    """A neighbouring bfloat16: 16 random bits are added below the last one that stays, and cut."""
    bits = x.to(tl.uint32, bitcast=True)
    moved = tl.add(bits, noise >> 16, sanitize_overflow=False)
    return (tl.where(x == x, moved, bits | 0x400000) & 0xFFFF0000).to(tl.float32, bitcast=True)


@triton.jit
def stochastic_f16(x, noise):
    """A neighbouring float16, in units of the last place, which below 2**-14 are all 2**-24."""
    size = tl.abs(x)
    power = (size.to(tl.uint32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    unit = tl.maximum(power * 0.0009765625, 5.9604644775390625e-08)
    # Both terms have 13 bits behind the point, so their sum is exact.
    moved = tl.div_rn(size, unit) + (noise >> 19).to(tl.float32) * 0.0001220703125
    kept = tl.where(size < 65536.0, tl.floor(moved) * unit, size)
    sign = x.to(tl.uint32, bitcast=True) & 0x80000000
    return (kept.to(tl.uint32, bitcast=True) | sign).to(tl.float32, bitcast=True)


@triton.jit
def drawn_bf16(x, key):
    """A neighbouring bfloat16, chosen by a hash of the bits of x and key."""
    x = x.to(tl.float32)
    other = tl.mul(key.to(tl.float32).to(tl.uint32, bitcast=True), 0x9E3779B9, sanitize_overflow=False)
    return stochastic_bf16(x, mixed(tl.add(x.to(tl.uint32, bitcast=True), other, sanitize_overflow=False)))


@triton.jit
def dither(x):
    """A number in [0, 1) that looks random and depends on nothing but the bits of x."""
    return (mixed(x.to(tl.uint32, bitcast=True)) >> 8).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def shift_root(x, N: tl.constexpr, OFFSET: tl.constexpr):
    """Near a root of order 2**N of x >= 0, by a shift of its bits."""
    return ((x.to(tl.uint32, bitcast=True) >> N) + OFFSET).to(tl.float32, bitcast=True)


@triton.jit
def shift_power(x, N: tl.constexpr, OFFSET: tl.constexpr):
    """The inverse of :func:`shift_root`, odd, and 0 at 0."""
    bits = x.to(tl.uint32, bitcast=True)
    size = ((bits & 0x7FFFFFFF) - OFFSET) << N
    found = ((size & 0x7FFFFFFF) | (bits & 0x80000000)).to(tl.float32, bitcast=True)
    return tl.where(x == 0, x, found)


@triton.jit
def scale_of(x, LEAST: tl.constexpr, LIMIT: tl.constexpr, FULL: tl.constexpr, SHARE: tl.constexpr):
    """The scale of each line of x, and what makes shares of its numbers; both have one column.

    Args:
        x: float32 (lines, elements that share a scale).
        LEAST: bits of what the largest value counts for at least.
        LIMIT: bits of the largest value that has a scale.
        FULL: the share of the largest value.
        SHARE: its reciprocal.
    """
    bits = (x.to(tl.uint32, bitcast=True) & 0x7FFFFFFF).to(tl.int32)
    top = tl.max(bits, axis=1, keep_dims=True)  # in bits, NaN is larger than all numbers
    peak = tl.where(top == 0, 0, tl.maximum(top, LEAST))
    largest = tl.where(top > LIMIT, 0x7FC00000, peak).to(tl.float32, bitcast=True)
    inverse = tl.div_rn(tl.zeros_like(largest) + FULL, largest)
    return largest * SHARE, tl.where(largest > 0, inverse, 0.0)
