"""Pictures of a schedule: dots for the terminal, and a self-contained SVG."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TypeAlias

from kudari.errors import ArgumentError
from kudari.schedules.bound import Bound
from kudari.schedules.schedule import Window

# Bits of a Braille cell: two columns of four dots.
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_SAMPLES_PER_COLUMN = 8
Scale: TypeAlias = Callable[[float], float]


def draw_text(
    bound: Bound, *, width: int = 64, height: int = 12, peak: float = 1.0, ascii_only: bool = False
) -> str:
    """Draw a schedule with characters.

    Args:
        bound: a schedule and its run; the run's length must be known.
        width, height: of the curve, in characters; at least 16 and 3.
        peak: what the factor multiplies, for the labels.
        ascii_only: stars instead of Braille dots, for terminals without Unicode.

    Returns:
        Lines of text with labels of both axes.

    Example:
        >>> from kudari.schedules import linear
        >>> print(draw_text(linear(1, 0).bind(100), width=16, height=4, ascii_only=True))
               1 |***
                 |  ******
                 |       *******
               0 |             ***
                  0            100
    """
    total = _total(bound)
    if width < 16 or height < 3:
        raise ArgumentError(
            f"A picture of {width} x {height} characters is too small.", fix="Use 16 x 3 or more."
        )
    across, down = (1, 1) if ascii_only else (2, 4)
    columns, rows = width * across, height * down
    ranges = _ranges(bound, columns)
    low, high = _scale(ranges)
    cells = [[0] * width for _ in range(height)]
    for column, (bottom, top) in enumerate(ranges):
        first, last = (round((high - value) / (high - low) * (rows - 1)) for value in (top, bottom))
        for row in range(first, last + 1):
            bit = 1 if ascii_only else _DOTS[row % 4][column % 2]
            cells[row // down][column // across] |= bit
    lines = []
    for index, row_cells in enumerate(cells):
        if ascii_only:
            text = "".join("*" if cell else " " for cell in row_cells)
        else:
            text = "".join(chr(0x2800 + cell) if cell else " " for cell in row_cells)
        label = {0: f"{high * peak:.3g}", height - 1: f"{low * peak:.3g}"}.get(index, "")
        lines.append(f"{label:>8} |{text.rstrip()}".rstrip())
    lines.append(" " * 10 + f"0{total:>{width - 1}}")
    return "\n".join(lines)


def draw_svg(bound: Bound, *, width: int = 720, height: int = 320, peak: float = 1.0) -> str:
    """Draw a schedule as one SVG that needs nothing else and follows the reader's light or dark theme.

    Args:
        bound: a schedule and its run; the run's length must be known.
        width, height: in pixels; at least 200 and 120.
        peak: what the factor multiplies, for the labels.

    Returns:
        The SVG document.
    """
    total = _total(bound)
    if width < 200 or height < 120:
        raise ArgumentError(
            f"A picture of {width} x {height} pixels is too small.", fix="Use 200 x 120 or more."
        )
    left, right, top, bottom = 64, 16, 36, 40
    across, down = width - left - right, height - top - bottom
    ranges = _ranges(bound, across)
    low, high = _scale(ranges)

    def x_of(step: float) -> float:
        return round(left + across * step / total, 2)

    def y_of(factor: float) -> float:
        return round(top + down * (high - factor) / (high - low), 2)

    points: list[str] = []
    for column, (least, most) in enumerate(ranges):
        x = round(left + column * across / (len(ranges) - 1), 2)
        points.append(f"{x},{y_of(most)}")
        if most != least:
            points.append(f"{x},{y_of(least)}")
    title = escape(str(bound.schedule))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label="{title}">',
            _STYLE,
            f"<title>{title}</title>",
            f"<desc>{escape(str(bound.expression))}</desc>",
            f'<text x="{left}" y="22" class="title">{title}</text>',
            *_grid(low, high, peak, left, width - right, y_of),
            *_marks(bound, total, x_of, top, top + down),
            f'<text x="{left}" y="{height - 14}">0</text>',
            f'<text x="{width - right}" y="{height - 14}" text-anchor="end">{total:,} steps</text>',
            f'<polyline points="{" ".join(points)}"/>',
            "</svg>",
            "",
        ]
    )


_STYLE = """<style>
svg { background: #fff; font: 12px system-ui, sans-serif }
text { fill: #444 } .title { font-size: 13px; fill: #111 }
line { stroke: #ddd } .part { stroke: #999; stroke-dasharray: 3 4 }
polyline { fill: none; stroke: #1f6feb; stroke-width: 2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
svg { background: #111 } text { fill: #bbb } .title { fill: #eee } line { stroke: #333 }
polyline { stroke: #6cb6ff }
}
</style>"""


def _grid(low: float, high: float, peak: float, left: int, right: int, y_of: Scale) -> list[str]:
    lines = []
    for part in range(5):
        factor = low + (high - low) * part / 4
        y = y_of(factor)
        lines.append(f'<line x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{factor * peak:.3g}</text>')
    return lines


def _marks(bound: Bound, total: int, x_of: Scale, top: int, bottom: int) -> list[str]:
    """A dotted line where one part of a sequence ends and the next begins."""
    segments = bound.schedule.segments(Window(total, bound.run))
    return [
        f'<line class="part" x1="{x_of(start)}" x2="{x_of(start)}" y1="{top}" y2="{bottom}"/>'
        for _, start, _ in segments
        if start > 0
    ]


def _total(bound: Bound) -> int:
    if bound.total_steps is None:
        raise ArgumentError(
            "A picture needs the length of the run.", fix="Bind the schedule with total_steps=."
        )
    return bound.total_steps


def _ranges(bound: Bound, columns: int) -> list[tuple[float, float]]:
    """Smallest and largest factor in every column, so that short peaks are not lost."""
    total = _total(bound)
    count = min(total, columns * _SAMPLES_PER_COLUMN)
    steps = [round(i * total / count) for i in range(count + 1)]
    values = bound.table(steps)
    found: list[tuple[float, float]] = []
    for column in range(columns):
        # Each column begins where the last one ended, so that the curve has no gaps.
        first, last = column * count // columns, (column + 1) * count // columns
        inside = values[first : last + 1]
        found.append((min(inside), max(inside)))
    return found


def _scale(ranges: list[tuple[float, float]]) -> tuple[float, float]:
    low, high = min(0.0, *(r[0] for r in ranges)), max(r[1] for r in ranges)
    return low, high if high > low else low + 1.0
