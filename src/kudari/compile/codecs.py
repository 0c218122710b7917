"""Codecs: states in 8 or 4 bits, a block of consecutive elements sharing one float32 scale.

The scale of a block is its largest absolute value, or a fixed multiple of it; an element is a whole number,
its code. What a code means and which code an element gets are expressions, so that every printer has every
codec without knowing any.

A block of zeros stays zeros. A block with anything in it that is not finite has a NaN for its scale and comes
back as NaN. A second moment above zero never becomes zero, however small: the direction divides by its root.

``8bit``: a float with a tapering mantissa, made and read by shifts of bits alone. Shifting the bits of a
float right by n halves its exponent n times and gives, up to a few percent, its root of order 2**n. The code
is that root to the nearest 128th (signed states, n = 2) or 256th (others, n = 3); shifting back reads it,
exactly. Codes lie as close as those of a fourth or eighth power, without a root to take.

``4bit``: a square for signed states, the square of k*(k + 2) for second moments, rounded up or down so that
the expectation is exact (for second moments, that of the root). A state that the direction divides by as it
is, and not by its root, is a square too: the smallest second moment is 1/7225 of the largest, and a small
average over such a divisor would be a step a hundred times too long. The draw is a hash of the element's own
bits: it needs no generator, and the same value always gets the same code. Rounded to nearest, coarse codes
would freeze an average that moves by a thousandth a step.

``8bit-dynamic``: the dynamic map of Dettmers et al. 2021, 8-bit Optimizers via Block-wise Quantization, as
bitsandbytes stores it. Between two powers of ten its values are evenly spaced, so it is a line for each
decade and needs no table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kudari.compile.expression import Expr, const, node, slot

Code = Literal[
    "8bit", "8bit unsigned", "4bit", "4bit unsigned", "4bit size", "8bit-dynamic", "8bit-dynamic unsigned"
]

# Smaller tensors are not coded: little to gain, and norms and biases are the ones that can be hurt.
SMALLEST_CODED = 4096

# What the formulas of a codec are about: a code, 0 for the value 0, and an element's share of the scale.
CODE, SHARE = slot("code"), slot("share")
# What the largest value of a block counts for at least, if it is not 0: its reciprocal is finite.
LEAST_PEAK = 2.0**-126


@dataclass(frozen=True)
class Codec:
    """How a block of elements is stored.

    Attributes:
        name: as slots of programs have it.
        bits: of a code; codes of 4 bits are packed in twos, the first one in the low half of the byte.
        block: elements that share a scale.
        zero: what is stored for the code 0; a code c is stored as ``zero + c``, which is never below 0.
        decode: value over scale, in terms of :data:`CODE`.
        encode: the code of an absolute value, still to be rounded, in terms of :data:`SHARE` in [0, 1].
        top: the largest code.
        full: the share of the largest element of a block; the scale is that element over it.
        shift: of a tapered float, by how many bits; else 0. Its codes are rounded to the nearest, ties to
            even, all others down.
    """

    name: Code
    bits: Literal[8, 4]
    block: int
    zero: int
    top: int
    decode: Expr
    encode: Expr
    full: float
    shift: int = 0

    @property
    def signed(self) -> bool:
        """Whether values below zero have codes."""
        return self.zero > 0

    @property
    def bytes_per_element(self) -> float:
        """Code and share of the scale."""
        return self.bits / 8 + 4 / self.block

    def code_bytes(self, elements: int) -> int:
        """Length of the codes of a tensor."""
        return -(-elements * self.bits // 8)

    def blocks(self, elements: int) -> int:
        """Number of scales of a tensor."""
        return -(-elements // self.block)


def _where(condition: Expr, a: Expr | float, b: Expr | float) -> Expr:
    return node("where", condition, a, b)


def _tapered(n: int, bits: int, signed: bool) -> tuple[Expr, Expr, float]:
    """Decoding and encoding by shifts of bits, and the share that the highest code stands for."""
    unit = 2.0**bits
    code = node("shift_root", SHARE, float(n), unit)
    # The bits of (unit - 1) / unit are those of 1 less one part in unit, halved by every octave above.
    octaves = (2.0 - 2.0 / unit - 1.0) * 2**n
    full = 2.0 ** (int(octaves) - 2**n) * (1.0 + octaves % 1.0)
    return node("shift_power", CODE, float(n), unit, float(signed)), code, full


def _not_zero(code: Expr) -> Expr:
    """At least 1 for what is above zero."""
    least = _where(SHARE > 0, 1.0, 0.0)
    return _where(code > least, code, least)


def _rounded_root(y: Expr, bend: float = 0.0) -> Expr:
    """The k with ``k*(k + bend) = y``, rounded up or down so that the expectation of that product is y."""
    root = node("sqrt", y + bend**2 / 4) - bend / 2 if bend else node("sqrt", y)
    k, draw = node("floor", root), node("dither", SHARE)
    return k + _where(y - k * (k + bend) > draw * (2.0 * k + (1.0 + bend)), 1.0, 0.0)


# Code k of 4 bits for a second moment stands for the square of k*(k + BEND): near the power 3 of k. A larger
# BEND lengthens LAMB's direction less and puts small moments further from their code.
BEND = 2.0


def _steps(x: Expr, borders: list[float], values: list[float]) -> Expr:
    """values[i] where borders[i-1] <= x < borders[i]."""
    found: Expr = const(values[-1])
    for border, value in reversed(list(zip(borders, values[:-1], strict=True))):
        found = _where(x < border, value, found)
    return found


def _dynamic(signed: bool) -> tuple[Expr, Expr]:
    """Decoding and encoding of the dynamic map: 7 decades, each with twice the values of the one below.

    Decade i goes from 10**(i-7) to 10**(i-6); its values are the middles of ``count[i]`` equal parts.
    """
    count = [2**i if signed else 2 ** (i + 1) for i in range(7)]
    first = [n if signed else n - 1 for n in count]
    size = [10.0 ** (i - 6) for i in range(7)]
    top = float(first[6] + count[6])
    # The code in terms of the value within a decade, and the other way round.
    slope = [0.9 * s / n for s, n in zip(size, count, strict=True)]
    start = [0.1 * s - m * f for s, m, f in zip(size, slope, first, strict=True)]
    middle = [a + m * 0.5 for a, m in zip(start, slope, strict=True)]
    k = node("abs", CODE) if signed else CODE
    places = [float(f) for f in first[1:]]
    line = node("fma", k, _steps(k, places, slope), _steps(k, places, middle))
    value = _where(k < 1, 0.0, _where(k < top, line, 1.0))
    value = _where(CODE < 0, -value, value) if signed else value
    # Borders are half way from the last value of a decade to the first of the next.
    ends = [b + m * (f + n - 1) for b, m, f, n in zip(middle, slope, first, count, strict=True)]
    begins = [b + m * f for b, m, f in zip(middle, slope, first, strict=True)]
    borders = [(a + b) / 2 for a, b in zip(ends[:-1], begins[1:], strict=True)]
    slopes = _steps(SHARE, borders, [1 / m for m in slope])
    offsets = _steps(SHARE, borders, [-a / m for a, m in zip(start, slope, strict=True)])
    code = node("fma", SHARE, slopes, offsets)
    last = _steps(SHARE, borders, [float(f + n - 1) for f, n in zip(first, count, strict=True)])
    code = _where(code < last, code, last)
    code = _where(begins[0] / 2 > SHARE, 0.0, _where(code < 1, 1.0, code))
    code = _where((ends[6] + 1) / 2 > SHARE, code, top)
    return value, code if signed else _not_zero(code)


def _make() -> dict[Code, Codec]:
    signed, unsigned = _tapered(2, 7, True), _tapered(3, 8, False)
    size, most = CODE * (1.0 / 15.0), 15.0 * (15.0 + BEND)
    root = CODE * (CODE + BEND) * (1.0 / most)
    of_root = _not_zero(_rounded_root(most * node("sqrt", SHARE), BEND))
    made = (
        Codec("8bit", 8, 256, 128, 127, *signed, shift=2),
        Codec("8bit unsigned", 8, 256, 0, 255, unsigned[0], _not_zero(unsigned[1]), unsigned[2], shift=3),
        Codec("4bit", 4, 128, 8, 7, CODE * abs(CODE) * (1.0 / 49.0), _rounded_root(49.0 * SHARE), 1.0),
        Codec("4bit unsigned", 4, 128, 0, 15, root * root, of_root, 1.0),
        Codec("4bit size", 4, 128, 0, 15, size * size, _not_zero(_rounded_root(225.0 * SHARE)), 1.0),
        Codec("8bit-dynamic", 8, 256, 127, 128, *_dynamic(True), 1.0),
        Codec("8bit-dynamic unsigned", 8, 256, 0, 255, *_dynamic(False), 1.0),
    )
    return {codec.name: codec for codec in made}


CODECS: dict[Code, Codec] = _make()


def codec_of(state_dtype: str, non_negative: bool, size: bool = False) -> Codec | None:
    """The codec that a ``state_dtype`` means for a state; None for the floating-point ones.

    Args:
        state_dtype: the group's.
        non_negative, size: the state's; see :class:`~kudari.compile.declarations.State`.

    Example:
        >>> codec_of("8bit", True).name, codec_of("fp32", True)
        ('8bit unsigned', None)
    """
    plain = f"{state_dtype} unsigned" if non_negative else state_dtype
    names: list[str] = [f"{state_dtype} size", plain] if size else [plain]
    return next((codec for name in names for key, codec in CODECS.items() if key == name), None)
