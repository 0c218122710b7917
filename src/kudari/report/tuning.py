"""The pages of races, searches and learning-rate suggestions; each is one self-contained file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Protocol

from kudari.report.markup import Child, Markup, element, join
from kudari.report.numbers import duration, is_share, label, metric, number, plural
from kudari.report.page import document
from kudari.report.plots import Dot, Line, Plot, bars, draw
from kudari.report.scales import Scale, step_scale, value_scale
from kudari.report.sections import command, section, table_row
from kudari.tune.results import Attempt, Race, Search, Standing

ROWS = 100
"""Attempts listed by name, the best first."""


class Suggestion(Protocol):
    """What :func:`kudari.tune.lr` returns, as far as its page reads it."""

    @property
    def lr(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def confidence(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def spent(self) -> float: ...
    @property
    def reliable(self) -> bool: ...
    @property
    def picture(self) -> str: ...


def write_suggestion(
    found: Suggestion, folder: Path, title: str, again: str, said: Sequence[str] = ()
) -> Path:
    """Write ``report.html`` of a learning-rate search.

    Args:
        found: of :func:`kudari.tune.lr`.
        folder: created if missing.
        title: what was trained on.
        again: shell command that searches again.
        said: sentences about the data.

    Returns:
        The page's path.
    """
    cards = [
        ("Learning rate", number(found.lr, 3), "" if found.reliable else "the optimizer's own"),
        (
            "About as good",
            f"{number(found.low, 2)} to {number(found.high, 2)}" if found.reliable else "unknown",
            "",
        ),
        ("Confidence", found.confidence, ""),
        ("Cost", f"{found.spent / max(1, found.steps):.0%}", "of a training run"),
    ]
    body = [
        _head("learning-rate search", title, found.why, said),
        _cards(cards),
        section("picture", "What was tried", element("div", Markup(found.picture), class_="scroll")),
        section("again", "Do it again", command(again)),
    ]
    return _write(folder, title, body)


def write_race(race: Race, folder: Path, again: str) -> Path:
    """Write ``report.html`` of a race.

    Args:
        race: of :func:`kudari.tune.compare`.
        folder: created if missing.
        again: shell command that runs it again.

    Returns:
        The page's path.
    """
    standings = race.standings()
    colours = {t.optimizer: i for i, t in enumerate(race.tuned)}
    best = standings[0]
    seeds = plural(len(race.seeds), "seed")
    sentence = (
        f"{len(race.tuned)} optimizers, {seeds}, {plural(race.steps, 'step')} each, every learning rate "
        "found by the same search."
    )
    cards = [("Best", best.optimizer, f"of {seeds}")]
    if best.finished:
        cards.append((label(race.metric), spread(best, race.metric), "mean and standard deviation"))
    quick = min(standings, key=lambda s: s.step_seconds)
    small = min(standings, key=lambda s: s.state_bytes)
    cards.append(("Fastest step", quick.optimizer, duration_of_step(quick.step_seconds)))
    cards.append(("Least memory", small.optimizer, f"{small.state_bytes / 2**20:.3g} MiB of state"))
    body = [
        _head("race of optimizers", race.title, sentence, race.said),
        _cards(cards),
        section("race", "The race", _race_curves(race, colours), _race_dots(race, standings, colours)),
        section("table", "Results", _standings(race, standings)),
        section("rates", "How each learning rate was found", _tuned(race)),
        section("again", "Do it again", command(again)),
    ]
    return _write(folder, race.title, body)


def write_search(search: Search, folder: Path, again: str) -> Path:
    """Write ``report.html`` of a search.

    Args:
        search: of :func:`kudari.tune.search.run_search`.
        folder: created if missing.
        again: shell command that goes on with it.

    Returns:
        The page's path.
    """
    best, done = search.best(), [a for a in search.attempts if a.value is not None]
    stopped = sum(a.status == "stopped" for a in search.attempts)
    sentence = f"{plural(len(search.attempts), 'attempt')}, {stopped} of them stopped early."
    cards = [("Attempts", str(len(search.attempts)), f"{len(done)} to the end")]
    if best is not None and best.value is not None:
        cards.insert(
            0, (label(search.metric), metric(search.metric, best.value), f"attempt {best.number + 1}")
        )
        cards += [(key, str(value), "of the best") for key, value in best.values.items()]
    body = [
        _head("search of settings", search.title, sentence, search.said),
        _cards(cards),
        section("history", "History", _history(search)) if done else None,
        _importance(search),
        section("settings", "Each setting", element("div", _slices(search), class_="charts"))
        if done
        else None,
        section("table", "Attempts", _attempts(search)),
        section("again", "Go on", command(again)),
    ]
    return _write(folder, search.title, body)


def spread(standing: Standing, key: str) -> str:
    """A mean with its standard deviation, where there are several seeds."""
    mean, deviation = standing.mean[key], standing.spread[key]
    if not math.isfinite(deviation):
        return metric(key, mean)
    if is_share(key, mean):
        return f"{100 * mean:.2f} ± {100 * deviation:.2f} %"
    return f"{number(mean)} ± {number(deviation, 2)}"


def duration_of_step(seconds: float) -> str:
    """A step's time in micro- or milliseconds."""
    return f"{1e6 * seconds:,.0f} µs" if seconds < 1e-3 else f"{1e3 * seconds:,.3g} ms"


def _write(folder: Path, title: str, body: Sequence[Child]) -> Path:
    footer = element(
        "footer", element("p", "Made by Kudari. This page is one file, opens offline and sends nothing.")
    )
    page = document(f"{title} · Kudari", join([element("main", body, id="top"), footer]))
    folder.mkdir(parents=True, exist_ok=True)
    path, draft = folder / "report.html", folder / "report.html.tmp"
    draft.write_text(page, encoding="utf-8")
    draft.replace(path)
    return path


def _head(kind: str, title: str, lead: str, said: Sequence[str]) -> Markup:
    return element(
        "header",
        element("p", element("span", "Kudari", class_="brand"), f" {kind}", class_="eyebrow"),
        element("h1", title),
        element("p", lead, class_="lead"),
        element("p", " ".join(said), class_="lead quiet") if said else None,
    )


def _cards(rows: Sequence[tuple[str, str, str]]) -> Markup:
    items = [
        element("div", element("dt", name), element("dd", value, element("small", hint) if hint else None))
        for name, value, hint in rows
    ]
    return element("dl", items, class_="cards", aria_label="Headline numbers")


def _race_curves(race: Race, colours: dict[str, int]) -> Markup:
    lines = []
    for entry in race.entries:
        points = tuple((float(s), v) for s, v in entry.curve if math.isfinite(v))
        lines.append(
            Line(f"{entry.optimizer}, seed {entry.seed}", colours[entry.optimizer], points, faint=True)
        )
    for name, colour in colours.items():
        lines.append(Line(f"{name}, mean", colour, _mean_curve(race, name)))
    drawn = [v for line in lines for _, v in line.points]
    plot = Plot(
        "race-curves",
        "Validation loss",
        step_scale([0.0, float(race.steps)]),
        value_scale(drawn),
        "steps",
        "Thick: mean of the seeds that finished. Thin: single seeds; some were stopped or diverged.",
        tuple(lines),
        legend=tuple(colours.items()),
        large=True,
    )
    words = " ".join(
        f"{n} ends at {number(_mean_curve(race, n)[-1][1])}." for n in colours if _mean_curve(race, n)
    )
    return draw(plot, words or "No finite values.")


def _mean_curve(race: Race, name: str) -> tuple[tuple[float, float], ...]:
    """Mean over the runs that finished; over all, where none did."""
    mine = [e for e in race.entries if e.optimizer == name]
    mine = [e for e in mine if e.status == "finished"] or mine
    by_step: dict[int, list[float]] = {}
    for entry in mine:
        for step, value in entry.curve:
            if math.isfinite(value):
                by_step.setdefault(step, []).append(value)
    return tuple((float(step), fmean(values)) for step, values in sorted(by_step.items()))


def _race_dots(race: Race, standings: Sequence[Standing], colours: dict[str, int]) -> Markup | None:
    places = {s.optimizer: float(i) for i, s in enumerate(standings)}
    dots = [
        Dot(
            places[e.optimizer], e.values[race.metric], colours[e.optimizer],
            f"{e.optimizer}, seed {e.seed}: {metric(race.metric, e.values[race.metric])}",
        )
        for e in race.entries
        if e.status == "finished"
    ]  # fmt: skip
    if not dots:
        return None
    values = [d.y for d in dots]
    plot = Plot(
        "race-dots",
        f"{label(race.metric)} at the end, every seed",
        Scale(-0.5, len(standings) - 0.5),
        value_scale(values, share=is_share(race.metric, *values)),
        dots=tuple(dots),
        named=tuple((places[s.optimizer], s.optimizer) for s in standings),
    )
    return draw(plot, " ".join(d.text + "." for d in dots))


def _standings(race: Race, standings: Sequence[Standing]) -> Markup:
    names = list(next((s.mean for s in standings if s.finished), {}))
    names.sort(key=lambda n: n != race.metric)
    rows = [
        table_row("th", "Optimizer", *(label(n) for n in names), "Learning rate", "Step", "State", "Runs")
    ]
    for s in standings:
        runs = [f"{s.finished} finished"]
        runs += [
            f"{count} {word}" for count, word in ((s.stopped, "stopped"), (s.diverged, "diverged")) if count
        ]
        rows.append(
            table_row(
                "td",
                s.optimizer,
                *(spread(s, n) if n in s.mean else "" for n in names),
                number(s.lr, 2),
                duration_of_step(s.step_seconds),
                f"{s.state_bytes / 2**20:.3g} MiB",
                ", ".join(runs),
            )
        )
    note = (
        "Mean and standard deviation over the seeds that finished. Step: median time of a whole training "
        "step, the least of the seeds."
    )
    return join(
        [
            element("div", element("table", rows, class_="list"), class_="scroll"),
            element("p", note, class_="note"),
        ]
    )


def _tuned(race: Race) -> Markup:
    rows = [table_row("th", "Optimizer", "Learning rate", "Confidence", "Why", "Cost")]
    for t in race.tuned:
        cost = f"{t.spent / max(1, race.steps):.0%} of a run"
        rows.append(table_row("td", t.optimizer, number(t.lr, 2), t.confidence, t.why, cost))
    return element("div", element("table", rows, class_="list"), class_="scroll")


def _history(search: Search) -> Markup:
    done = [a for a in search.attempts if a.value is not None]
    sign = 1.0 if search.better == "lower" else -1.0
    best, front = math.inf, []
    for a in done:
        best = min(best, sign * (a.value or 0.0))
        front.append((float(a.number + 1), sign * best))
    last = float(max(a.number for a in search.attempts) + 1)
    values = [a.value for a in done if a.value is not None]
    plot = Plot(
        "search-history",
        label(search.metric),
        Scale(0.0, max(2.0, last)),
        value_scale(values, share=is_share(search.metric, *values)),
        "attempts",
        "Dots: attempts that ran to the end. Line: the best so far.",
        (Line("best so far", 1, tuple(front)),),
        tuple(Dot(a.number + 1.0, a.value or 0.0, 0, _attempt_words(a, search)) for a in done),
        (("attempt", 0), ("best so far", 1)),
        large=True,
    )
    return draw(plot, f"The best of {len(done)} attempts is {metric(search.metric, sign * best)}.")


def _attempt_words(a: Attempt, search: Search) -> str:
    value = metric(search.metric, a.value) if a.value is not None else a.status
    return f"attempt {a.number + 1}: " + ", ".join(f"{k}={v}" for k, v in a.values.items()) + f": {value}"


def _importance(search: Search) -> Markup | None:
    if not search.importance:
        return None
    rows = sorted(search.importance.items(), key=lambda item: -item[1])
    drawn = bars([(name, share, f"{100 * share:.0f} %") for name, share in rows])
    note = (
        "How much of the difference between good attempts and all of them each setting explains (PED-ANOVA)."
    )
    return section("importance", "What mattered", drawn, element("p", note, class_="note"))


def _slices(search: Search) -> list[Markup]:
    """For each setting, the value of every attempt over it."""
    done = [a for a in search.attempts if a.value is not None]
    values = [a.value for a in done if a.value is not None]
    y = value_scale(values, share=is_share(search.metric, *values))
    found = []
    for i, key in enumerate(done[0].values):
        places, scale, named = _places([str(a.values[key]) for a in done])
        dots = tuple(
            Dot(x, a.value or 0.0, 0, _attempt_words(a, search)) for x, a in zip(places, done, strict=True)
        )
        plot = Plot(f"search-slice-{i}", key, scale, y, dots=dots, named=named)
        found.append(draw(plot, f"{label(search.metric)} over {key}."))
    return found


def _places(texts: Sequence[str]) -> tuple[list[float], Scale, tuple[tuple[float, str], ...]]:
    """Numbers on an axis of their own; words side by side."""
    try:
        numbers = [float(t) for t in texts]
    except ValueError:
        words = sorted(set(texts))
        at = {word: float(i) for i, word in enumerate(words)}
        return [at[t] for t in texts], Scale(-0.5, len(words) - 0.5), tuple((at[w], w) for w in words)
    low, high = min(numbers), max(numbers)
    if low > 0 and high >= 10 * low:
        return numbers, Scale(low / 1.2, high * 1.2, log=True), ()
    space = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return numbers, Scale(low - space, high + space), ()


def _attempts(search: Search) -> Markup:
    sign = 1.0 if search.better == "lower" else -1.0
    ranked = sorted(
        search.attempts,
        key=lambda a: (a.value is None, sign * (a.value if a.value is not None else 0.0), a.number),
    )
    keys = list(ranked[0].values) if ranked else []
    rows = [table_row("th", "Attempt", label(search.metric), *keys, "Time")]
    for a in ranked[:ROWS]:
        value = metric(search.metric, a.value) if a.value is not None else a.status
        rows.append(
            table_row("td", str(a.number + 1), value, *(str(a.values[k]) for k in keys), duration(a.seconds))
        )
    return element("div", element("table", rows, class_="list"), class_="scroll")
