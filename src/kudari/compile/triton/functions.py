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
def _arc_tangent(q):
    """atan(q) for |q| <= 0.55: q + q*s*P(s), s = q*q, relative error 8.3e-10 and 1.4e-19."""
    s = q * q
    if q.dtype == tl.float64:
        total = s * 0.0051107095066856630152 - 0.017073484723160475521
        total = total * s + 0.030256352727550788063
        total = total * s - 0.040053896265502232078
        total = total * s + 0.046743948745071316259
        total = total * s - 0.05246802683672005712
        total = total * s + 0.058801204270004804339
        total = total * s - 0.066664462679108614368
        total = total * s + 0.07692292268254514413
        total = total * s - 0.090909083510127659001
        total = total * s + 0.11111111088057465853
        total = total * s - 0.14285714285287274173
        total = total * s + 0.1999999999999599439
        total = total * s - 0.33333333333333320153
    else:
        total = s * 0.033985879126020447825 - 0.076317240661462830071
        total = total * s + 0.10844035601088114873
        total = total * s - 0.14260059013055545636
        total = total * s + 0.19998845938414730709
        total = total * s - 0.33333315873516264731
    return q * s * total + q


@triton.jit
def atan2(y, x):
    """The angle of the point (x, y), from -pi to pi; the method is that of the CPU kernel."""
    height = tl.abs(y)
    width = tl.abs(x)
    steep = height > width
    small = tl.where(steep, width, height)
    big = tl.where(steep, height, width)
    # Steep quotients are turned by pi/4. Equal ones have nothing left then, also inf and inf, whose
    # difference is NaN; a quarter of both is taken where their sum could overflow.
    scale = tl.where(big > 1.0, 0.25, 1.0).to(y.dtype)
    a = small * scale
    b = tl.where(big == 0, 1.0, big * scale)
    turned = tl.where(small == big, height > 0, small > big * 0.55)
    above = tl.where(small == big, a * 0.0, tl.where(turned, a - b, a))
    above = tl.where(above == above, above, 0.0)
    below = tl.where(small == big, b, tl.where(turned, a + b, b))
    if y.dtype == tl.float64:
        part = _arc_tangent(above / below)
        rest = 3.061616997868383e-17
    else:
        part = _arc_tangent(tl.div_rn(above, below))
        rest = -2.1855695031547384e-08
    quarters = tl.where(turned, 1.0, 0.0).to(y.dtype)
    quarters = tl.where(steep, 2.0 - quarters, quarters)
    part = tl.where(steep, part * -1.0, part)
    angle = quarters * 0.7853981633974483 + (quarters * rest + part)
    if y.dtype == tl.float64:
        left = x.to(tl.int64, bitcast=True) < 0  # also -0, as IEEE 754 has it
        under = y.to(tl.int64, bitcast=True) < 0
    else:
        left = x.to(tl.int32, bitcast=True) < 0
        under = y.to(tl.int32, bitcast=True) < 0
    angle = tl.where(left, 3.141592653589793 - angle, angle)
    angle = tl.where(x == x, tl.where(y == y, angle, y), x)
    return tl.where(under, angle * -1.0, angle)


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
