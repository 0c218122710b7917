"""Line charts over optimizer steps.

A chart is an SVG without a view box: places are percentages and sizes are pixels, so text and line widths
stay the same on a phone and on a wide screen. Lines sit in an inner SVG that stretches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kudari.report.markup import Markup, element, join, short
from kudari.report.numbers import is_share, label, metric, number, plural
from kudari.report.scales import Scale, step_scale, value_scale
from kudari.report.series import Event, Point, Series, all_values, pick, smooth, thin

GRID = 1000
"""Units of the inner, stretched drawing in both directions."""

MARKERS = 60
"""A validation series with more points than this is drawn as a line without markers."""

HOVER = 240
"""Values of one line that the read-out under the pointer knows."""

EVENTS = 24
"""At most this many events are drawn as vertical lines."""


@dataclass(frozen=True)
class Chart:
    """What to draw.

    Attributes:
        key: metric name; decides how values are written.
        title: heading.
        train, valid: the series; either may be missing.
        note: a sentence below the heading.
        best: ``min`` or ``max`` rings the best validation point.
        from_zero: the axis is linear and begins at 0.
        plain: the training series is exact (a schedule): one line, no smoothing.
        events: vertical lines.
        epochs_per_step: to tell the epoch in the read-out; 0 if unknown.
        large: the tall version, for the first chart.
    """

    key: str
    title: str
    train: Series | None = None
    valid: Series | None = None
    note: str = ""
    best: str = ""
    from_zero: bool = False
    plain: bool = False
    events: tuple[Event, ...] = ()
    epochs_per_step: float = 0.0
    large: bool = False


def line_chart(chart: Chart) -> Markup:
    """Draw one chart as a ``figure`` with legend, axes, description and the values for the read-out."""
    series = [s for s in (chart.train, chart.valid) if s is not None]
    values = all_values(series)
    y = value_scale(values, share=is_share(chart.key, *values), from_zero=chart.from_zero)
    x = step_scale(step for s in series for step, _ in s.points)
    name = f"chart-{chart.key.replace('_', '-')}"
    name = "".join(c for c in name if c.isalnum() or c == "-")
    layers = [
        _axes(x, y),
        _events(chart.events, x),
        _train(chart, x, y),
        _valid(chart, x, y),
        _broken(series, x),
    ]
    svg = element(
        "svg",
        element("title", chart.title, id=f"{name}-title"),
        element("desc", describe(chart), id=f"{name}-desc"),
        layers,
        class_="plot",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )
    size = "chart large" if chart.large else "chart"
    return element(
        "figure",
        element("figcaption", _heading(chart, name), _legend(chart, y)),
        element("div", svg, class_="canvas"),
        element("p", chart.note, class_="note") if chart.note else None,
        _broken_note(chart),
        _readout(chart, x, y),
        class_=size,
        aria_labelledby=f"{name}-heading",
    )


def _heading(chart: Chart, name: str) -> Markup:
    return element("h3", chart.title, id=f"{name}-heading")


def _legend(chart: Chart, y: Scale) -> Markup:
    """Names of the lines with their last values; says so where the axis is logarithmic."""
    items = []
    for kind, word, series in (("train", "training", chart.train), ("valid", "validation", chart.valid)):
        if series is None or not series.points:
            continue
        value = metric(chart.key, series.points[-1][1])
        if chart.plain and series.finite:
            peak = max(v for _, v in series.finite)
            value = f"{number(peak, 3)} at its peak, {number(series.points[-1][1], 3)} at the end"
        text = element("b", value) if chart.valid is None else join([word, " ", element("b", value)])
        items.append(element("span", element("i", class_=f"key {kind}", aria_hidden="true"), text))
    if y.log:
        items.append(element("span", "log axis", class_="quiet"))
    return element("span", items, class_="legend")


def describe(chart: Chart) -> str:
    """What the chart shows, in words: for screen readers and for those who only skim."""
    parts = []
    for word, series in (("Training", chart.train), ("Validation", chart.valid)):
        if series is None or not series.finite:
            continue
        finite = series.finite
        first, last = finite[0], finite[-1]
        low, high = min(v for _, v in finite), max(v for _, v in finite)
        parts.append(
            f"{word}: from {metric(chart.key, first[1])} at step {first[0]:,.0f} to "
            f"{metric(chart.key, last[1])} at step {last[0]:,.0f}, "
            f"between {metric(chart.key, low)} and {metric(chart.key, high)}."
        )
    return " ".join(parts) or "No finite values."


def percent(place: float) -> str:
    """A place between 0 and 1 as a length of SVG."""
    return f"{short(100 * place)}%"


def _axes(x: Scale, y: Scale) -> Markup:
    parts: list[Markup] = []
    for value, text in y.ticks(4 if y.log else 5):
        at = percent(1 - y.place(value))
        parts.append(element("line", x1="0", x2="100%", y1=at, y2=at, class_="grid"))
        parts.append(element("text", text, x="-8", y=at, dy="0.32em", class_="tick y"))
    named = x.ticks(5)
    for i, (value, text) in enumerate(named):
        at, last = percent(x.place(value)), i == len(named) - 1
        text = f"{text} steps" if last else text
        anchor = "end" if last and x.place(value) > 0.9 else "start" if x.place(value) < 0.01 else "middle"
        parts.append(element("text", text, x=at, y="100%", dy="1.55em", text_anchor=anchor, class_="tick"))
    parts.append(element("line", x1="0", x2="100%", y1="100%", y2="100%", class_="axis"))
    return join(parts)


def _events(events: Sequence[Event], x: Scale) -> Markup:
    parts = []
    for event in pick([(float(i), 0.0) for i in range(len(events))], EVENTS):
        found = events[int(event[0])]
        if not x.low <= found.step <= x.high:
            continue
        at = percent(x.place(found.step))
        title = element("title", f"step {found.step:,}: {found.name}. {found.text}")
        parts.append(element("line", title, x1=at, x2=at, y1="0", y2="100%", class_="event"))
    return join(parts)


def path(runs: Sequence[Sequence[Point]], x: Scale, y: Scale) -> str:
    """The ``d`` of lines, one for each run of points; a lone point becomes a dot by its round cap."""
    found = []
    for run in runs:
        places = [f"{short(GRID * x.place(s))} {short(GRID * (1 - y.place(v)))}" for s, v in run]
        found.append("M" + "L".join(places if len(places) > 1 else places * 2))
    return "".join(found)


def _stretched(runs: Sequence[Sequence[Point]], x: Scale, y: Scale, class_: str) -> Markup:
    line = element("path", d=path(runs, x, y), class_=class_)
    return element(
        "svg",
        line,
        viewBox=f"0 0 {GRID} {GRID}",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
        class_="inner",
    )


def _train(chart: Chart, x: Scale, y: Scale) -> Markup | None:
    if chart.train is None or not chart.train.finite:
        return None
    raw = [thin(run) for run in chart.train.runs()]
    if chart.plain:
        return _stretched(raw, x, y, "line train")
    return join(
        [
            _stretched(raw, x, y, "line train raw"),
            _stretched([smooth(run) for run in chart.train.runs()], x, y, "line train"),
        ]
    )


def _valid(chart: Chart, x: Scale, y: Scale) -> Markup | None:
    if chart.valid is None or not chart.valid.finite:
        return None
    finite = chart.valid.finite
    parts = [_stretched([thin(run) for run in chart.valid.runs()], x, y, "line valid")]
    for step, value in finite if len(finite) <= MARKERS else []:
        title = element("title", f"step {step:,.0f}: validation {metric(chart.key, value)}")
        at = (percent(x.place(step)), percent(1 - y.place(value)))
        parts.append(element("circle", title, cx=at[0], cy=at[1], r=3, class_="marker"))
    if chart.best and len(finite) > 2:
        sign = 1 if chart.best == "min" else -1
        step, value = min(finite, key=lambda p: sign * p[1])
        at = (percent(x.place(step)), percent(1 - y.place(value)))
        word = "lowest" if chart.best == "min" else "highest"
        text = f"{word} validation: {metric(chart.key, value)} at step {step:,.0f}"
        parts.append(element("circle", element("title", text), cx=at[0], cy=at[1], r=6.5, class_="best"))
    return join(parts)


def _broken(series: Sequence[Series], x: Scale) -> Markup:
    """Where values stop being finite: a dashed line with a cross on top."""
    parts = []
    for step, value in pick([p for s in series for p in s.broken], EVENTS):
        at = percent(x.place(step))
        title = element("title", f"step {step:,.0f}: {metric('', value)}")
        parts.append(element("line", title, x1=at, x2=at, y1="0", y2="100%", class_="broken"))
        parts.append(element("text", "×", x=at, y="0", dy="-0.1em", text_anchor="middle", class_="broken"))
    return join(parts)


def _broken_note(chart: Chart) -> Markup | None:
    """The sentence below a chart that has values which are not finite."""
    parts = []
    for word, series in (("Training", chart.train), ("Validation", chart.valid)):
        if series is None or not series.broken:
            continue
        step, value = series.broken[0]
        count = sum(not math.isfinite(v) for _, v in series.points)
        parts.append(
            f"{word} is {metric('', value)} first at step {step:,.0f}; "
            f"{plural(count, 'logged value')} not finite in all, left out of the line."
        )
    return element("p", " ".join(parts), class_="note alarm") if parts else None


def _readout(chart: Chart, x: Scale, y: Scale) -> Markup:
    """The values the read-out shows: steps, places and texts, as JSON that no browser runs."""
    lines = []
    for kind, word, series in (("train", "training", chart.train), ("valid", "validation", chart.valid)):
        if series is None or not series.finite:
            continue
        points = series.finite
        if kind == "train" and not chart.plain:
            word, points = "training, mean", [p for run in series.runs() for p in smooth(run)]
        lines.append({"kind": kind, "name": word, "points": _places(chart.key, pick(points, HOVER), x, y)})
    data = {"low": x.low, "high": x.high, "epochs": chart.epochs_per_step, "lines": lines}
    # "<" is the only character that could end the script element early.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return element("script", Markup(text), type="application/json", class_="values")


def _places(key: str, points: Sequence[Point], x: Scale, y: Scale) -> list[tuple[int, float, str]]:
    return [(round(s), round(100 * (1 - y.place(v)), 1), metric(key, v)) for s, v in points]


def known_charts(
    train: Mapping[str, Series],
    valid: Mapping[str, Series],
    events: tuple[Event, ...],
    epochs_per_step: float,
) -> tuple[Chart | None, list[Chart]]:
    """The loss chart (None without a loss) and the others, metrics before learning rate and gradient norm."""
    best = {
        "loss": "min",
        "accuracy": "max",
        "f1": "max",
        "mae": "min",
        "rmse": "min",
        "mse": "min",
        "r2": "max",
    }
    last = ("lr", "grad_norm", "samples_per_second")
    names = [n for n in dict.fromkeys([*train, *valid]) if n not in ("loss", *last)]
    names += [n for n in last if n in train]

    def chart(name: str) -> Chart:
        return Chart(
            name,
            label(name),
            train.get(name),
            valid.get(name),
            best=best.get(name, ""),
            from_zero=name in ("lr", "samples_per_second"),
            plain=name == "lr",
            events=events if name == "loss" else (),
            epochs_per_step=epochs_per_step,
            large=name == "loss",
        )

    loss = chart("loss") if "loss" in train or "loss" in valid else None
    return loss, [chart(n) for n in names]
