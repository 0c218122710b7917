"""The page as a whole: reads a run's folder, puts the sections together, writes one file."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path

from kudari.errors import ArgumentError
from kudari.record import Facts, RunDir
from kudari.report import sections
from kudari.report.charts import Chart, known_charts, line_chart
from kudari.report.evaluation import evaluation_section
from kudari.report.markup import Markup, element, join
from kudari.report.series import BUCKETS, History, read_history

CONFIG_CHARACTERS = 60_000
"""A longer configuration is cut, with a sentence that says so."""

NAVIGATION = (
    ("findings", "Findings"),
    ("curves", "Curves"),
    ("evaluation", "Mistakes"),
    ("recipe", "Recipe"),
    ("rule", "Update rule"),
    ("reproduce", "Do it again"),
)


def write_report(run_dir: RunDir) -> Path:
    """Draw ``report.html`` from the files of a run and return its path.

    The page is one file below 1 MB that opens offline, asks the network for nothing and reads without
    JavaScript. It is written beside its final place and moved there, so a reader never sees half of it.

    Args:
        run_dir: the run; ``facts.json`` is needed, ``metrics.jsonl`` and ``config.yaml`` are drawn
            if they exist.

    Raises:
        ArgumentError: there is no ``facts.json``.

    Example:
        >>> write_report(RunDir(Path("runs/digits-1")))  # doctest: +SKIP
        PosixPath('runs/digits-1/report.html')
    """
    if not run_dir.facts.exists():
        raise ArgumentError(
            f"{run_dir.path} has no {run_dir.facts.name}.",
            why="It is written when a run ends, is interrupted or fails, and holds what the report says.",
            fix="Pass the folder of a run that has ended, or resume the run first.",
        )
    facts = Facts.read(run_dir.facts)
    config = run_dir.config.read_text(encoding="utf-8") if run_dir.config.exists() else ""
    page = render(facts, read_history(run_dir.metrics), config, run_dir)
    draft = run_dir.report.with_suffix(".html.tmp")
    draft.write_text(page, encoding="utf-8")
    draft.replace(run_dir.report)
    return run_dir.report


def render(facts: Facts, history: History, config: str, run_dir: RunDir) -> str:
    """The whole document as text."""
    if len(config) > CONFIG_CHARACTERS:
        config = config[:CONFIG_CHARACTERS] + f"\n... cut here; all of it is in {run_dir.config.name}"
    body = [
        sections.findings(facts.diagnoses),
        curves(facts, history),
        evaluation_section(facts.evaluation),
        sections.recipe(facts.recipe),
        sections.update_rule(facts),
        sections.reproduce(facts, config, history),
    ]
    content = element(
        "main",
        sections.header(facts),
        sections.banner(facts, run_dir, history),
        sections.cards(facts),
        navigation(join(body)),
        body,
        id="top",
    )
    footer = element(
        "footer", element("p", "Made by Kudari. This page is one file, opens offline and sends nothing.")
    )
    return document(f"{facts.name} · Kudari", join([content, footer]))


def navigation(body: Markup) -> Markup:
    """Links to the sections that are there."""
    links = [element("a", name, href=f"#{key}") for key, name in NAVIGATION if f'<section id="{key}"' in body]
    return element("nav", links, aria_label="Sections")


def curves(facts: Facts, history: History) -> Markup:
    """The loss, large, and every other metric that was logged."""
    step, epoch = history.epoch_of
    loss, others = known_charts(
        history.train, history.valid, tuple(history.events), epoch / step if step else 0.0
    )
    drawn = [c for c in (loss, *others) if c is not None and _has_points(c)]
    if not drawn:
        empty = element("p", "No metrics were logged before the run ended.", class_="note")
        return sections.section("curves", "The way down", empty)
    small = [line_chart(c) for c in drawn if not c.large]
    thinned = any(len(s.points) > 2 * BUCKETS for s in history.train.values())
    thin = "lowest and highest of neighbouring steps" if thinned else "every logged step"
    legend = f"Thin line: {thin}. Thick line: centred mean over about 4 % of the run. Dots: validation."
    return sections.section(
        "curves",
        "The way down",
        [line_chart(c) for c in drawn if c.large],
        element("div", small, class_="charts thirds" if len(small) % 3 == 0 else "charts") if small else None,
        element("p", legend, class_="note"),
    )


def _has_points(chart: Chart) -> bool:
    return any(s is not None and s.points for s in (chart.train, chart.valid))


def document(title: str, body: Markup) -> str:
    """The HTML document around a body; its policy forbids every request and every script but our own."""
    style, script = _asset("style.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(style)),
    ]
    page = element(
        "html", element("head", head), element("body", body, element("script", Markup(script))), lang="en"
    )
    return f"<!doctype html>\n{page}\n"


def _asset(name: str) -> str:
    return resources.files("kudari.report").joinpath(name).read_text(encoding="utf-8")
