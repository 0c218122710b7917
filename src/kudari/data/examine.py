"""What a column of a table holds, and whether it says anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kudari.data.columns import Series, to_days, to_numbers, to_texts
from kudari.data.words import count


@dataclass(frozen=True)
class Finding:
    """What a column was found to be.

    Attributes:
        kind: ``number``, ``category`` or ``date``, or empty where the column is left out.
        why: the reason it is left out.
        marks: texts in a numeric column that stand for a missing value.
    """

    kind: str
    why: str = ""
    marks: tuple[str, ...] = ()


_NESTED = (list, dict, tuple, set, bytes, np.ndarray)

MOSTLY = 0.95
"""A column of text is numeric where at least this share of its values is."""


def examine(name: str, column: Series, train: Series) -> Finding:
    """Decide what a column is: its type from all rows, whether it says anything from the training rows.

    Left out are columns that are empty or constant in the training rows, row numbers and other identifiers,
    free text, and nested values.
    """
    present = column.dropna()
    if train.dropna().empty:
        return Finding("", "empty")
    if column.dtype == object and present.map(lambda value: isinstance(value, _NESTED)).any():
        return Finding("", "nested values")
    found = _examine_typed(name, present)
    if not found.kind:
        return found
    fixed = to_numbers(train) if found.kind == "number" else to_texts(train)
    if fixed.nunique(dropna=False) <= 1:
        return Finding("", "the same everywhere")
    if found.kind == "category" and fixed.nunique(dropna=False) == len(fixed):
        return Finding("", "a different name in every row")
    return found


def _examine_typed(name: str, present: Series) -> Finding:
    kind = present.dtype
    if pd.api.types.is_datetime64_any_dtype(kind):
        return Finding("date")
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_timedelta64_dtype(kind):
        return Finding("number")
    if pd.api.types.is_numeric_dtype(kind):
        return _identifier(name, present) or Finding("number")
    if isinstance(kind, pd.CategoricalDtype):
        return Finding("category")
    return _examine_texts(name, present)


def _identifier(name: str, present: Series) -> Finding | None:
    """Row numbers often follow the order in which a table was put together, and so give the answer away."""
    values = to_numbers(present).dropna()
    if len(values) < 10 or values.nunique() < len(values) or (values != values.round()).any():
        return None
    lower = name.lower()
    named = lower in ("id", "index", "idx", "row", "key", "uuid") or lower.endswith(
        ("_id", " id", "unnamed: 0")
    )
    if named or values.max() - values.min() == len(values) - 1:
        return Finding("", "an identifier: every row has another one")
    return None


def _examine_texts(name: str, present: Series) -> Finding:
    texts = to_texts(present)
    counts = texts.value_counts()
    different = counts.index.to_series()
    numbers = to_numbers(different)
    if counts[numbers.notna()].sum() >= MOSTLY * len(texts):
        odd = tuple(sorted(different[numbers.isna()]))
        return _identifier(name, to_numbers(texts)) or Finding("number", marks=odd)
    if to_days(different).notna().all():
        return Finding("date")
    distinct = len(counts)
    if distinct > 20 and distinct > 0.5 * len(texts):
        words = different.str.split().str.len().mean()
        return Finding(
            "", "free text" if words >= 3 else f"{count(distinct, 'different name')}, too many to learn"
        )
    return Finding("category")
