"""A CSV or Parquet file with a target column."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kudari.data.assemble import assemble
from kudari.data.bundle import Bundle
from kudari.data.columns import FITS, Category, Column, Number, to_numbers
from kudari.data.examine import examine
from kudari.data.options import LoadOptions
from kudari.data.split import random_split
from kudari.data.tables import Frame, TableInputs, read_table
from kudari.data.target import read_target
from kudari.data.words import count, some
from kudari.errors import DataError, did_you_mean

TARGET_NAMES = ("target", "label", "class", "y")
"""Columns taken for the target, in this order, where none is named."""

_SPELLINGS = (
    ("dates", re.compile(r"\d{1,4}([./-])\d{1,2}\1\d{1,4}( .*)?").fullmatch, "2026-01-31"),
    ("numbers", re.compile(r"(?=.*[%€$£, ])[€$£]?\s?-?\d[\d., ]*\s?[%€$£]?").fullmatch, "1234.5"),
)
"""What categories may look like, how to tell, and how to write it so that it is taken for that."""


def load_table(path: Path, options: LoadOptions) -> Bundle:
    """Load a table; see :mod:`kudari.data.columns` for what becomes of each kind of column.

    Raises:
        DataError: for unreadable files, missing targets, and tables without a usable column.
    """
    frame, said = read_table(path)
    name, sentence = choose_target(list(frame.columns), options.target)
    said.append(sentence)
    frame, dropped = _without_missing_targets(frame, name, options)
    said += dropped
    target = read_target(_plain_values(frame[name]), [name], options.task)
    split = random_split(target.groups, options.valid_fraction, options.seed)
    columns, about = fit_columns(frame, name, split.train)
    inputs = TableInputs(columns)
    encoded = inputs.encode_frame(frame)
    return assemble(
        name=path.name.split(".")[0],
        noun="row",
        kind="table",
        inputs=inputs,
        encode=lambda rows: encoded[torch.from_numpy(rows)],
        target=target,
        split=split,
        names=[f"row {row + 1}" for row in frame.index],
        said=said,
        about=about,
    )


def choose_target(columns: list[str], asked: str | None) -> tuple[str, str]:
    """Return the name of the target column, and a sentence about the choice.

    Raises:
        DataError: where the column asked for is not there, or there is nothing beside the target.
    """
    if asked is not None:
        if asked not in columns:
            raise DataError(
                f"There is no column {asked!r}.{did_you_mean(asked, columns)}",
                fix=f"Columns: {some(columns, 30)}.",
            )
        name, why = asked, "as asked"
    else:
        lower = {column.lower(): column for column in reversed(columns)}
        known = next((lower[word] for word in TARGET_NAMES if word in lower), None)
        name = known or columns[-1]
        why = (
            "by its name; target=NAME changes that" if known else "the last column; target=NAME changes that"
        )
    if len(columns) < 2:
        raise DataError(
            f"The table has only the column {name!r}.",
            fix="A table needs a target and at least one other column.",
        )
    return name, f"The target is the column {name!r} ({why})."


def _without_missing_targets(frame: Frame, name: str, options: LoadOptions) -> tuple[Frame, list[str]]:
    column = frame[name]
    missing = column.isna()
    if column.dtype.kind == "f":
        missing |= ~np.isfinite(column)
    elif not missing.all() and column.dtype == object:
        missing |= column.map(lambda value: isinstance(value, str) and not value.strip())
    rows = [str(row + 1) for row in frame.index[missing]]
    if not rows:
        return frame, []
    if options.on_bad == "skip" and len(rows) < len(frame):
        return frame[~missing], [f"{count(len(rows), 'row')} without a target left out: {some(rows)}."]
    raise DataError(
        f"The target {name!r} is missing in {len(rows):,} of {count(len(frame), 'row')}: row {some(rows)} "
        f"(row 1 follows the header).",
        "Empty fields and the words NA, N/A, NaN, None and null are read as missing.",
        "Fill them in, or leave these rows out with on_bad=skip.",
    )


def _plain_values(column: Frame) -> NDArray[np.generic]:
    """Return a pandas column as a NumPy array of numbers, truth values or text."""
    values: NDArray[np.generic] = column.to_numpy()
    return values if values.dtype.kind in "iufb" else column.astype(str).to_numpy(dtype=object)


def fit_columns(frame: Frame, target: str, train: NDArray[np.int64]) -> tuple[tuple[Column, ...], list[str]]:
    """Fit every usable column on the training rows, and say what became of the others.

    Raises:
        DataError: where no column is left.
    """
    columns: list[Column] = []
    left_out: list[str] = []
    said: list[str] = []
    for name in frame.columns:
        if name == target:
            continue
        part = frame[name].iloc[train]
        found = examine(name, frame[name], part)
        if not found.kind:
            left_out.append(f"{name!r} ({found.why})")
            continue
        columns.append(FITS[found.kind](name, part, found.marks))
        if found.marks:
            said.append(
                f"Column {name!r} is numeric; {some([repr(m) for m in found.marks])} count as missing."
            )
    if not columns:
        raise DataError(
            f"No column is left to learn from: {some(left_out, 10)}.", fix="Add columns that say something."
        )
    if left_out:
        said.append(f"Left out: {some(left_out, 20)}.")
    more = (*_about_missing(frame, columns), *_about_rare(columns), *_about_spelling(frame, target, columns))
    return tuple(columns), [_kinds(columns), *said, *more]


def _kinds(columns: list[Column]) -> str:
    kinds = [column.to_dict()["kind"] for column in columns]
    parts = [
        count(kinds.count(kind), f"{word} column")
        for kind, word in (("number", "numeric"), ("category", "categorical"), ("date", "date"))
        if kind in kinds
    ]
    inputs = sum(len(column.features) for column in columns)
    verb = "becomes" if len(columns) == 1 else "become"
    return f"{some(parts)} {verb} {count(inputs, 'input')}; numbers are standardised with the training rows."


def _about_missing(frame: Frame, columns: list[Column]) -> list[str]:
    holes = {}
    for column in columns:
        series = frame[column.name]
        missing = to_numbers(series).isna() if isinstance(column, Number) else series.isna()
        if missing.any():
            holes[column.name] = int(missing.sum())
    if not holes:
        return []
    where = some([f"{name!r} ({number:,})" for name, number in holes.items()])
    return [
        f"Missing values in {where}: numbers become the training median, and an extra input tells that they "
        "were missing; missing names are a category of their own."
    ]


def _about_rare(columns: list[Column]) -> list[str]:
    pooled = [repr(column.name) for column in columns if isinstance(column, Category) and column.other]
    return [f"Rare categories of {some(pooled)} share one input."] if pooled else []


def _about_spelling(frame: Frame, target: str, columns: list[Column]) -> list[str]:
    """Name the columns that look like dates or numbers, spelt so that they are taken for names."""
    understood = {column.name for column in columns if not isinstance(column, Category)} | {target}
    values = {name: frame[name].dropna() for name in frame.columns if name not in understood}
    texts = {n: v.unique() for n, v in values.items() if len(v) and v.map(type).eq(str).all()}
    said = []
    for what, looks, spelt in _SPELLINGS:
        alike = [repr(name) for name, found in texts.items() if all(looks(text.strip()) for text in found)]
        if alike:
            said.append(f"Look like {what} and are not read as such: {some(alike)} (write {spelt}).")
    return said
