"""Plots of several lines or of dots over one value, for races and searches; axes as in the other charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kudari.report.charts import GRID, percent
from kudari.report.markup import Markup, element, join, short
from kudari.report.scales import Scale

COLOURS = 8
"""Lines with colours of their own; further ones begin again, dashed."""

Place = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line: its name, the number of its colour, and points by x; ``faint`` for one of several seeds."""

    name: str
    colour: int
    points: tuple[Place, ...]
    faint: bool = False


@dataclass(frozen=True)
class Dot:
    """One dot: its place, colour and what it says when pointed at."""

    x: float
    y: float
    colour: int
    text: str


@dataclass(frozen=True)
class Plot:
    """What to draw.

    Attributes:
        key: for ids.
        title, note: above it.
        x, y: the axes.
        x_name: written at the end of the horizontal axis.
        lines, dots: in the order to draw.
        legend: (name, colour) pairs.
        named: places on the horizontal axis with a name of their own, in place of round numbers.
        large: the tall version.
    """

    key: str
    title: str
    x: Scale
    y: Scale
    x_name: str = ""
    note: str = ""
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()
    legend: tuple[tuple[str, int], ...] = ()
    named: tuple[tuple[float, str], ...] = ()
    large: bool = False


def draw(plot: Plot, words: str) -> Markup:
    """Draw a plot as a ``figure``.

    Args:
        plot: what.
        words: what it shows, for those who cannot see it.
    """
    svg = element(
        "svg",
        element("title", plot.title, id=f"{plot.key}-title"),
        element("desc", words, id=f"{plot.key}-desc"),
        _axes(plot),
        [_line(line, plot) for line in plot.lines],
        [_dot(dot, plot) for dot in plot.dots],
        class_="plot",
        role="img",
        aria_labelledby=f"{plot.key}-title {plot.key}-desc",
    )
    return element(
        "figure",
        element("figcaption", element("h3", plot.title), _legend(plot)),
        element("div", svg, class_="canvas"),
        element("p", plot.note, class_="note") if plot.note else None,
        class_="chart large" if plot.large else "chart",
    )


def bars(rows: Sequence[tuple[str, float, str]]) -> Markup:
    """Shares between 0 and 1 as bars, with their names and values."""
    items = [
        element(
            "tr",
            element("td", element("code", name)),
            element("td", element("span", class_="bar", style=f"--f:{short(max(0.0, share))}"), text),
        )
        for name, share, text in rows
    ]
    return element("table", items, class_="list")


def _legend(plot: Plot) -> Markup:
    items = [
        element("span", element("i", class_=f"key c{colour % COLOURS}", aria_hidden="true"), name)
        for name, colour in plot.legend
    ]
    if plot.y.log:
        items.append(element("span", "log axis", class_="quiet"))
    return element("span", items, class_="legend")


def _axes(plot: Plot) -> Markup:
    parts = []
    for value, text in plot.y.ticks(4 if plot.y.log else 5):
        height = percent(1 - plot.y.place(value))
        parts.append(element("line", x1="0", x2="100%", y1=height, y2=height, class_="grid"))
        parts.append(element("text", text, x="-8", y=height, dy="0.32em", class_="tick y"))
    named = plot.named or tuple(plot.x.ticks(5))
    for i, (spot, text) in enumerate(named):
        at, last = plot.x.place(spot), i == len(named) - 1
        if last and plot.x_name and not plot.named:
            text = f"{text} {plot.x_name}"
        anchor = "end" if last and at > 0.9 else "start" if at < 0.01 else "middle"
        place = percent(at)
        parts.append(element("text", text, x=place, y="100%", dy="1.55em", text_anchor=anchor, class_="tick"))
    parts.append(element("line", x1="0", x2="100%", y1="100%", y2="100%", class_="axis"))
    return join(parts)


def _line(line: Line, plot: Plot) -> Markup | None:
    if not line.points:
        return None
    at = [f"{short(GRID * plot.x.place(x))} {short(GRID * (1 - plot.y.place(y)))}" for x, y in line.points]
    faint = " raw" if line.faint else ""
    dashed = " dashed" if line.colour >= COLOURS else ""
    path = element(
        "path",
        element("title", line.name),
        d="M" + "L".join(at if len(at) > 1 else at * 2),
        class_=f"line c{line.colour % COLOURS}{faint}{dashed}",
    )
    return element(
        "svg", path, viewBox=f"0 0 {GRID} {GRID}", preserveAspectRatio="none", width="100%", height="100%",
        class_="inner",
    )  # fmt: skip


def _dot(dot: Dot, plot: Plot) -> Markup:
    return element(
        "circle",
        element("title", dot.text),
        cx=percent(plot.x.place(dot.x)),
        cy=percent(1 - plot.y.place(dot.y)),
        r=4.5,
        class_=f"dot c{dot.colour % COLOURS}",
    )
