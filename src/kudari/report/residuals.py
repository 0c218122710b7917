"""Predicted against true values, and the histogram of their differences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kudari.report.charts import percent
from kudari.report.markup import Markup, element
from kudari.report.numbers import number, plural
from kudari.report.scales import LARGEST, SMALLEST, Scale, air, linear_ticks, value_scale

BINS = 28
"""About this many bars in the histogram."""


def residuals(pairs: Sequence[tuple[float, float]]) -> Markup:
    """Predicted over true values with the diagonal, and the histogram of their differences."""
    finite = [(t, p) for t, p in pairs if abs(t) < LARGEST and abs(p) < LARGEST]
    lost = len(pairs) - len(finite)
    if not finite:
        return element("p", "No prediction on the validation set is finite.", class_="note alarm")
    note = f"{plural(len(finite), 'validation sample')}; on the line, the prediction is exact."
    if lost:
        note += f" {plural(lost, 'prediction')} not finite or beyond drawing, left out."
    return element(
        "div",
        element(
            "figure",
            element("figcaption", element("h3", "Predicted and true values")),
            element("p", note, class_="note"),
            _scatter(finite),
            class_="chart",
        ),
        element(
            "figure",
            element("figcaption", element("h3", "How far off")),
            element("p", "Predicted minus true value: how many samples.", class_="note"),
            _histogram([p - t for t, p in finite]),
            class_="chart",
        ),
        class_="pair",
    )


def _scatter(pairs: Sequence[tuple[float, float]]) -> Markup:
    both = [v for pair in pairs for v in pair]
    low, high = min(both), max(both)
    scale = Scale(low - air(low, high), high + air(low, high))
    parts: list[Markup] = []
    for value, text in scale.ticks(5):
        at, up = percent(scale.place(value)), percent(1 - scale.place(value))
        parts.append(element("line", x1="0", x2="100%", y1=up, y2=up, class_="grid"))
        parts.append(element("line", x1=at, x2=at, y1="0", y2="100%", class_="grid"))
        parts.append(element("text", text, x="-8", y=up, dy="0.32em", class_="tick y"))
        parts.append(element("text", text, x=at, y="100%", dy="1.55em", text_anchor="middle", class_="tick"))
    parts.append(element("line", x1="0", y1="100%", x2="100%", y2="0", class_="diagonal"))
    dots = [
        element("circle", cx=percent(scale.place(t)), cy=percent(1 - scale.place(p)), r=2.6) for t, p in pairs
    ]
    parts.append(element("g", dots, class_="dots"))
    parts.append(element("text", "predicted", x="8", y="0", dy="1.3em", class_="tick name"))
    parts.append(
        element(
            "text", "true", x="100%", y="100%", dy="-0.7em", dx="-6", text_anchor="end", class_="tick name"
        )
    )
    title = element("title", "Predicted over true values")
    svg = element("svg", title, parts, class_="plot square", role="img")
    return element("div", svg, class_="canvas")


def _histogram(differences: Sequence[float]) -> Markup:
    width, first, counts = bins(differences)
    x, y = Scale(first * width, -first * width), value_scale([0.0, *map(float, counts)], from_zero=True)
    parts: list[Markup] = []
    for value, text in y.ticks(4):
        if value == int(value):
            up = percent(1 - y.place(value))
            parts.append(element("line", x1="0", x2="100%", y1=up, y2=up, class_="grid"))
            parts.append(element("text", text, x="-8", y=up, dy="0.32em", class_="tick y"))
    for i, count in enumerate(counts):
        parts.append(_bar(i, count, (first + i) * width, width, x, y, len(counts)))
    for value, text in x.ticks(4):
        at = percent(x.place(value))
        parts.append(element("text", text, x=at, y="100%", dy="1.55em", text_anchor="middle", class_="tick"))
    zero = percent(x.place(0.0))
    parts.append(element("line", x1=zero, x2=zero, y1="0", y2="100%", class_="diagonal"))
    parts.append(element("line", x1="0", x2="100%", y1="100%", y2="100%", class_="axis"))
    title = element("title", "Histogram of predicted minus true value")
    return element("div", element("svg", title, parts, class_="plot square", role="img"), class_="canvas")


def _bar(i: int, count: int, left: float, width: float, x: Scale, y: Scale, bars: int) -> Markup:
    """One bar; the outermost two also hold everything beyond them."""
    span = f"{number(left, 3)} to {number(left + width, 3)}"
    if i == 0:
        span = f"below {number(left + width, 3)}"
    elif i == bars - 1:
        span = f"above {number(left, 3)}"
    up = y.place(count)
    return element(
        "rect",
        element("title", f"{span}: {plural(count, 'sample')}"),
        x=percent(x.place(left)),
        y=percent(1 - up),
        width=percent(1 / bars),
        height=percent(up),
        class_="column",
    )


def bins(differences: Sequence[float]) -> tuple[float, int, list[int]]:
    """Width of the bins, number of the first (0 begins at 0) and counts; wide enough for 99 % of the values.

    Few far outliers would otherwise squeeze all others into one bar.

    Example:
        >>> width, first, counts = bins([-0.9, -0.1, 0.1, 0.2])
        >>> round(width, 3), first, sum(counts)
        (0.1, -9, 4)
    """
    sizes = sorted(map(abs, differences))
    most, largest = sizes[math.ceil(0.99 * len(sizes)) - 1], sizes[-1]
    reach = largest if largest < 3 * most or most < SMALLEST else 1.1 * most
    reach = reach if reach > SMALLEST else 1.0
    values, _ = linear_ticks(-reach, reach, BINS)
    width = values[1] - values[0]
    half = max(1, math.ceil(reach / width - 1e-9))
    counts = [0] * (2 * half)
    for difference in differences:
        place = min(half, max(-half, difference / width))
        counts[min(2 * half - 1, math.floor(place) + half)] += 1
    return width, -half, counts
