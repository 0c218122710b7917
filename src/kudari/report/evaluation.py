"""The final model on the validation set: confusion matrix or residuals, and the worst mistakes."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence

from kudari.record import Evaluation, Mistake
from kudari.report.markup import Markup, element, join
from kudari.report.numbers import number
from kudari.report.residuals import residuals

MATRIX_CLASSES = 30
"""With more classes the most frequent confusions are listed instead of the matrix."""

PAIRS = 16
"""Rows of that list."""

PAIRS_BESIDE = 8
"""Rows of the list that stands beside a small matrix."""

MISTAKES = 24
"""At most this many of the worst mistakes are shown."""

PICTURE_CHARACTERS = 400_000
"""Base64 characters of all pictures together; pictures beyond them are left out to keep the page small."""

SHADES = ((0.8, " strong"), (0.5, " middle"))
"""Shades from which the style sheet changes the colour of the count, for contrast."""

PIXEL_ART = 64
"""Narrower pictures are enlarged with hard edges: each pixel is what the model saw."""

BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def evaluation_section(evaluation: Evaluation | None) -> Markup | None:
    """The section on the final model, None where there is nothing to show."""
    if evaluation is None:
        return None
    parts: list[Markup | None] = []
    if evaluation.confusion:
        parts.append(confusion(evaluation.classes, evaluation.confusion))
    if evaluation.residuals:
        parts.append(residuals(evaluation.residuals))
    if evaluation.mistakes:
        parts.append(mistakes(evaluation.mistakes))
    if not any(parts):
        return None
    return element("section", element("h2", "Where it is right, and where not"), parts, id="evaluation")


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """The confusion matrix as a table, or the most frequent confusions where it would be unreadable."""
    names = [*classes, *(f"class {i}" for i in range(len(classes), len(counts)))]
    total = sum(map(sum, counts))
    right = sum(counts[i][i] for i in range(len(counts)))
    summary = f"{right:,} of {total:,} validation samples right, {total - right:,} wrong."
    if len(counts) > MATRIX_CLASSES:
        body = element(
            "div",
            element("div", element("h4", "Which is taken for which"), _pairs(names, counts, PAIRS)),
            element("div", element("h4", "Weakest classes"), _weakest(names, counts)),
            class_="matrix",
        )
    else:
        beside = element(
            "div", element("h4", "Most frequent confusions"), _pairs(names, counts, PAIRS_BESIDE)
        )
        body = element("div", _matrix(names, counts), beside if right < total else None, class_="matrix")
        summary += " Rows are the truth, columns the prediction."
    return element(
        "div",
        element("h3", "Confusion matrix" if len(counts) <= MATRIX_CLASSES else "Most frequent confusions"),
        element("p", summary, class_="note"),
        body,
        class_="card",
    )


def _matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    worst = max((n for i, line in enumerate(counts) for j, n in enumerate(line) if i != j), default=0)
    head = [element("td", class_="corner")]
    head += [element("th", element("span", n), scope="col") for n in names]
    head.append(element("th", element("span", "right"), scope="col", class_="recall"))
    lines = [element("tr", head)]
    for i, line in enumerate(counts):
        total = sum(line)
        cells = [_cell(names, i, j, n, total, worst) for j, n in enumerate(line)]
        recall = f"{100 * line[i] / total:.0f} %" if total else "none"
        cells.append(element("td", recall, class_="recall"))
        lines.append(element("tr", element("th", names[i], scope="row"), cells))
    size = "small" if len(names) <= 6 else "many" if len(names) > 14 else ""
    short_names = all(len(n) <= 3 for n in names)
    table = element("table", lines, class_=f"confusion {size} {'short' if short_names else 'long'}".strip())
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Confusion matrix")


def _cell(names: Sequence[str], i: int, j: int, count: int, total: int, worst: int) -> Markup:
    if count == 0:
        return element("td", class_="hit zero" if i == j else "zero")
    # Right answers are shaded by their share of the class; confusions by their share of the most frequent
    # one, under a root so that single mistakes stay visible.
    strength = count / total if i == j else 0.25 + 0.75 * math.sqrt(count / worst)
    return element(
        "td",
        f"{count}",
        class_=("hit" if i == j else "miss") + next((c for s, c in SHADES if strength > s), ""),
        style=f"--s:{round(100 * strength)}%",
        title=f"{names[i]} taken for {names[j]}: {count} of {total}"
        if i != j
        else f"{names[i]}: {count} of {total}",
    )


def _pairs(names: Sequence[str], counts: Sequence[Sequence[int]], rows: int) -> Markup:
    found = [(n, i, j) for i, line in enumerate(counts) for j, n in enumerate(line) if i != j and n > 0]
    found.sort(key=lambda item: (-item[0], item[1], item[2]))
    if not found:
        return element("p", "No confusions at all.")
    most = found[0][0]
    lines = [_row("th", "Truth", "Predicted", "Samples", "Of class")]
    for n, i, j in found[:rows]:
        bar = element("span", class_="bar", style=f"--f:{n / most:.2f}", aria_hidden="true")
        share = f"{100 * n / sum(counts[i]):.0f} %"
        lines.append(_row("td", names[i], names[j], join([bar, f"{n:,}"]), share))
    return element("div", element("table", lines, class_="list"), class_="scroll")


def _weakest(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """The classes with the smallest share of right answers."""
    found = [(line[i] / sum(line), i) for i, line in enumerate(counts) if sum(line)]
    lines = [_row("th", "Class", "Right", "Samples")]
    for share, i in sorted(found)[:PAIRS]:
        lines.append(_row("td", names[i], f"{100 * share:.0f} %", f"{counts[i][i]:,} of {sum(counts[i]):,}"))
    return element("div", element("table", lines, class_="list"), class_="scroll")


def _row(tag: str, *cells: str) -> Markup:
    return element("tr", [element(tag, cell, scope="col" if tag == "th" else None) for cell in cells])


def mistakes(worst: Sequence[Mistake]) -> Markup:
    """The worst mistakes: pictures where there are pictures, else a table."""
    shown = worst[:MISTAKES]
    if not any(m.picture for m in shown):
        return element("div", element("h3", "The worst mistakes"), _mistake_table(shown), class_="card")
    budget, figures = PICTURE_CHARACTERS, []
    for mistake in shown:
        fits = len(mistake.picture) <= budget and BASE64.fullmatch(mistake.picture) is not None
        budget -= len(mistake.picture) if fits else 0
        figures.append(_mistake_picture(mistake, fits))
    return element(
        "div",
        element("h3", "The worst mistakes"),
        element("p", "Validation samples with the largest loss, the worst first.", class_="note"),
        element("ul", figures, class_="mistakes"),
        class_="card",
    )


def _mistake_picture(mistake: Mistake, fits: bool) -> Markup:
    sure = f"{100 * mistake.confidence:.0f} % sure, " if mistake.confidence is not None else ""
    loss = element("span", f"loss {number(mistake.loss, 3)}", class_="nowrap")
    text = f"{mistake.truth}, predicted {mistake.predicted}"
    if fits:
        source = f"data:image/png;base64,{mistake.picture}"
        small = png_width(mistake.picture) < PIXEL_ART
        alt = f"Sample {mistake.index}: {text}"
        picture = element("img", src=source, alt=alt, class_="pixels" if small else None)
    else:
        picture = element("span", "picture left out", class_="missing")
    return element(
        "li",
        picture,
        element(
            "p", element("b", mistake.truth), element("span", " taken for "), element("b", mistake.predicted)
        ),
        element("p", sure, loss, class_="quiet"),
        element(
            "p", f"sample {mistake.index}" if mistake.index.isdigit() else mistake.index, class_="quiet file"
        ),
    )


def png_width(picture: str) -> int:
    """Width in pixels of a base64 PNG, from bytes 16 to 19 of its header; 0 if it is too short."""
    head = base64.b64decode(picture[:32])
    return int.from_bytes(head[16:20], "big") if len(head) >= 20 else 0


def _mistake_table(worst: Sequence[Mistake]) -> Markup:
    with_confidence = any(m.confidence is not None for m in worst)
    lines = [_row("th", "Sample", "Truth", "Predicted", *(["Sure"] if with_confidence else []), "Loss")]
    for m in worst:
        sure = "" if m.confidence is None else f"{100 * m.confidence:.0f} %"
        cells = [m.index, m.truth, m.predicted, *([sure] if with_confidence else []), number(m.loss, 3)]
        lines.append(_row("td", *cells))
    return element("div", element("table", lines, class_="list"), class_="scroll")
