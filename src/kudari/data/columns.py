"""How one column of a table becomes model inputs. Statistics are those of the training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kudari.data.words import some
from kudari.errors import DataError

Series = Any  # pandas ships no types of its own
Features = NDArray[np.float32]

YEAR_DAYS, WEEK_DAYS = 365.2425, 7.0


class Column(Protocol):
    """A column that is used: fitted once, then applied to any table."""

    @property
    def name(self) -> str:
        """Of the column in the table."""
        ...

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the inputs it becomes."""
        ...

    def encode(self, series: Series) -> Features:
        """Return (N, len(features)) float32 without missing values."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        ...


def to_numbers(series: Series) -> Series:
    """Return float64 values; what is not a number, or not finite, is missing."""
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        return series.dt.total_seconds()
    numbers: Series = pd.to_numeric(series, errors="coerce")
    numbers = numbers.astype("float64")
    return numbers.where(np.isfinite(numbers))


def to_texts(series: Series) -> Series:
    """Return text without outer spaces, None where missing; whole floats are spelt like integers."""
    codes, distinct = pd.factorize(series)  # spells each different value once; a missing one has code -1
    spelt = np.array([*map(_spell, distinct), None], dtype=object)
    return pd.Series(spelt[codes], index=series.index, dtype=object)


def _spell(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def to_days(series: Series) -> Series:
    """Return days since 1970, float64; what is no ISO 8601 date is missing."""
    if not pd.api.types.is_datetime64_any_dtype(series.dtype):
        series = series.where(series.map(lambda v: isinstance(v, str) or hasattr(v, "isoformat")))
    moments: Series = pd.to_datetime(series, errors="coerce", format="ISO8601", utc=True)
    return (moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)


def _mean_and_std(values: NDArray[np.float64], name: str) -> tuple[float, float]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(values.mean()), float(values.std())
    if not np.isfinite(mean) or not np.isfinite(std):
        raise DataError(
            f"Column {name!r} holds numbers up to {np.abs(values).max():.1e}, too large to average.",
            fix="Rescale the column or take its logarithm.",
        )
    return mean, std if std > 1e-12 * abs(mean) and std > 0 else 1.0


def _with_flag(block: Features, missing: NDArray[np.bool_], flag: bool) -> Features:
    return np.column_stack([block, missing]).astype(np.float32) if flag else block


@dataclass(frozen=True)
class Number:
    """A numeric column: standardised; a missing value becomes the median and sets an indicator input.

    Attributes:
        indicator: whether values were missing in training, and so whether there is an indicator.
        marks: texts that stood for a missing value, such as ``?``.
    """

    kind: ClassVar[str] = "number"
    name: str
    mean: float
    std: float
    median: float
    indicator: bool
    marks: tuple[str, ...] = ()

    @classmethod
    def fit(cls, name: str, train: Series, marks: tuple[str, ...] = ()) -> Number:
        values = to_numbers(train).to_numpy()
        present = values[~np.isnan(values)]
        mean, std = _mean_and_std(present, name)
        return cls(name, mean, std, float(np.median(present)), len(present) < len(values), marks)

    @property
    def features(self) -> tuple[str, ...]:
        return (self.name, f"{self.name} is missing") if self.indicator else (self.name,)

    def encode(self, series: Series) -> Features:
        numbers = to_numbers(series)
        odd = numbers.isna() & series.notna()
        if odd.any() and not pd.api.types.is_numeric_dtype(series.dtype):
            bad = series[odd & ~to_texts(series).isin([*self.marks, "", *_INFINITE])]
            if len(bad):
                places = some([f"row {row + 1} ({value!r})" for row, value in bad.items()])
                raise DataError(
                    f"Column {self.name!r} is numeric, but not in {places}.",
                    fix="Correct these values or leave them empty.",
                )
        values = numbers.to_numpy()
        missing = np.isnan(values)
        scaled = (np.where(missing, self.median, values) - self.mean) / self.std
        return _with_flag(scaled.astype(np.float32)[:, None], missing, self.indicator)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


_INFINITE = ("inf", "-inf", "+inf", "Infinity", "-Infinity", "nan", "NaN")


@dataclass(frozen=True)
class Category:
    """A column of names: one input per category.

    Categories beyond the 50 most frequent, and those seen once, share an ``other`` input; a category that
    training never saw sets that one too. Where no such input was trained it sets none at all.

    Attributes:
        categories: names in the order of the inputs.
        missing: whether missing values have an input of their own (they had one to learn from).
        other: whether there is an input for rare categories.
    """

    kind: ClassVar[str] = "category"
    MOST: ClassVar[int] = 50
    name: str
    categories: tuple[str, ...]
    missing: bool
    other: bool

    @classmethod
    def fit(cls, name: str, train: Series, _marks: tuple[str, ...] = ()) -> Category:
        texts = to_texts(train)
        counts = texts.dropna().value_counts()
        frequent = counts[counts > 1]
        order = sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[: cls.MOST]
        kept = tuple(sorted(text for text, _ in order))
        return cls(name, kept, bool(texts.isna().any()), len(kept) < len(counts))

    @property
    def features(self) -> tuple[str, ...]:
        names = [f"{self.name}={text}" for text in self.categories]
        names += [f"{self.name} is missing"] * self.missing + [f"{self.name}=(other)"] * self.other
        return tuple(names)

    def encode(self, series: Series) -> Features:
        rows, distinct = pd.factorize(to_texts(series))
        places = {text: place for place, text in enumerate(self.categories)}
        # An integer column with a hole is written with floats: 1.0 means the category 1.
        found = [places.get(text, places.get(text.removesuffix(".0"), -1)) for text in distinct]
        codes, absent = np.array([*found, -1])[rows], rows < 0
        block = np.zeros((len(series), len(self.features)), dtype=np.float32)
        known = np.flatnonzero(codes >= 0)
        block[known, codes[known]] = 1
        if self.missing:
            block[absent, len(self.categories)] = 1
        if self.other:
            block[(codes < 0) & ~absent, -1] = 1
        return block

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Date:
    """A column of dates: standardised days, and where they are in the year and in the week.

    A missing date becomes the mean date and sets an indicator input.
    """

    kind: ClassVar[str] = "date"
    name: str
    mean: float
    std: float
    indicator: bool

    @classmethod
    def fit(cls, name: str, train: Series, _marks: tuple[str, ...] = ()) -> Date:
        days = to_days(train).to_numpy()
        present = days[~np.isnan(days)]
        mean, std = _mean_and_std(present, name)
        return cls(name, mean, std, len(present) < len(days))

    @property
    def features(self) -> tuple[str, ...]:
        parts = ("days", "sin of year", "cos of year", "sin of week", "cos of week")
        names = tuple(f"{self.name} ({part})" for part in parts)
        return (*names, f"{self.name} is missing") if self.indicator else names

    def encode(self, series: Series) -> Features:
        converted = to_days(series)
        bad = series[converted.isna() & series.notna()]
        if len(bad):
            places = some([f"row {row + 1} ({value!r})" for row, value in bad.items()])
            raise DataError(
                f"Column {self.name!r} holds dates, but not in {places}.",
                fix="Write them as 2026-01-31 or 2026-01-31T12:00, or leave them empty.",
            )
        days = converted.to_numpy()
        missing = np.isnan(days)
        days = np.where(missing, self.mean, days)
        year, week = 2 * np.pi * days / YEAR_DAYS, 2 * np.pi * days / WEEK_DAYS
        block = np.column_stack(
            [(days - self.mean) / self.std, np.sin(year), np.cos(year), np.sin(week), np.cos(week)]
        )
        return _with_flag(block.astype(np.float32), missing, self.indicator)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


Fit = Callable[[str, Series, tuple[str, ...]], Column]
FITS: dict[str, Fit] = {"number": Number.fit, "category": Category.fit, "date": Date.fit}


def column_from_dict(raw: Mapping[str, Any]) -> Column:
    """Read what ``to_dict`` of a column wrote."""
    values = {key: value for key, value in raw.items() if key != "kind"}
    if raw["kind"] == "number":
        return Number(**{**values, "marks": tuple(values["marks"])})
    if raw["kind"] == "category":
        return Category(**{**values, "categories": tuple(values["categories"])})
    if raw["kind"] == "date":
        return Date(**values)
    raise DataError(f"The pipeline has a column of kind {raw['kind']!r}, which is not known.")
