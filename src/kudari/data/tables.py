"""Tables to tensors: reading CSV and Parquet files, and the way of their columns into the model."""

from __future__ import annotations

import csv
import gzip
import itertools
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kudari.data.extras import require
from kudari.data.words import count, some
from kudari.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from kudari.data.columns import Column

Frame = Any  # pandas ships no types of its own

CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_SEPARATORS = ",;\t|"


def has_suffix(path: Path, suffixes: Sequence[str]) -> bool:
    """Say whether a file name ends like one of the suffixes, in any case."""
    return path.name.lower().endswith(tuple(suffixes))


def read_table(path: Path, text_columns: Sequence[str] = ()) -> tuple[Frame, list[str]]:
    """Read a CSV or Parquet file.

    Separator, decimal comma and a missing header are recognised.

    Args:
        path: the file.
        text_columns: columns to keep as text even where all their values look like numbers.

    Returns:
        The table with text column names and rows numbered from 0, and sentences about what was recognised.

    Raises:
        DataError: where it cannot be read as a table, has no rows, or has two columns of one name.
        MissingExtraError: where pandas, or pyarrow for Parquet, is not installed.
    """
    require("pandas", "Reading tables")
    if not path.is_file():
        raise DataError(f"There is no file {path}.", fix="Check the path.")
    said: list[str] = []
    if has_suffix(path, PARQUET_SUFFIXES):
        frame = _read_parquet(path)
    elif has_suffix(path, CSV_SUFFIXES):
        frame, said = _read_csv(path, text_columns)
    else:
        known = " ".join((*CSV_SUFFIXES, *PARQUET_SUFFIXES))
        raise DataError(f"{path} is no table by its ending.", fix=f"Known endings: {known}.")
    frame = frame.rename(columns=lambda name: str(name).strip()).reset_index(drop=True)
    twice = sorted({name for name in frame.columns if list(frame.columns).count(name) > 1})
    if twice:
        raise DataError(
            f"{path} has several columns named {some(twice)}.", fix="Give each column its own name."
        )
    if frame.empty:
        raise DataError(f"{path} has no rows.", fix="Check the file.")
    return frame, said


def _read_parquet(path: Path) -> Frame:
    import pandas as pd

    require("pyarrow", "Reading Parquet files")
    try:
        return pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:  # pyarrow's errors are kinds of these
        raise DataError(
            f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", fix="Write the file again."
        ) from error


def _read_csv(path: Path, text_columns: Sequence[str]) -> tuple[Frame, list[str]]:
    import pandas as pd

    said = []
    try:
        opener = gzip.open if path.name.lower().endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8-sig") as opened:
            lines = [line.rstrip("\r\n") for line in itertools.islice(opened, 20)]
        separator = _separator(path, lines)
        comma = separator != "," and any(re.search(r"(^|\D)-?\d+,\d+(\D|$)", line) for line in lines[1:])
        names = next(csv.reader([lines[0]], delimiter=separator), []) if lines else []
        headless = bool(names) and all(_looks_numeric(name, comma) for name in names)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                decimal="," if comma else ".",
                header=None if headless else 0,
                names=[f"column_{i}" for i in range(1, len(names) + 1)] if headless else None,
                dtype=dict.fromkeys(text_columns, str),
                index_col=False,
                encoding="utf-8-sig",
                skipinitialspace=True,
                low_memory=False,
            )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start:,}).", fix="Save the table as CSV in UTF-8."
        ) from error
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        pd.errors.ParserWarning,
        csv.Error,
        OSError,
    ) as error:
        reason = str(error).strip().splitlines()[0].removeprefix("Error tokenizing data. C error: ")
        raise DataError(
            f"{path} cannot be read as a table: {reason}.",
            fix="Every line needs as many fields as the header.",
        ) from error
    if separator != ",":
        said.append(f"Columns are separated by {separator!r}{' and decimals have a comma' * comma}.")
    if headless:
        said.append(f"The file has no header: its columns are called column_1 to column_{len(names)}.")
    return frame, said


def _separator(path: Path, lines: Sequence[str]) -> str:
    if ".tsv" in path.name.lower() or not lines:
        return "\t" if ".tsv" in path.name.lower() else ","
    counts = {mark: lines[0].count(mark) for mark in _SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","


def _looks_numeric(text: str, comma: bool) -> bool:
    try:
        float(text.strip().replace(",", ".") if comma else text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class TableInputs:
    """Columns of a table as inputs (N, features).

    Attributes:
        columns: those used, in the order of the inputs.
    """

    columns: tuple[Column, ...]

    @property
    def kind(self) -> str:
        return "table"

    @property
    def features(self) -> tuple[str, ...]:
        """Name of every model input."""
        return tuple(name for column in self.columns for name in column.features)

    def encode_frame(self, frame: Frame) -> Tensor:
        """Return inputs (N, features) float32 of a pandas table; other columns and the order do not matter.

        Raises:
            DataError: for missing columns (all of them named), and text in a numeric column.
        """
        absent = [column.name for column in self.columns if column.name not in frame.columns]
        if absent:
            hints = {did_you_mean(name, list(frame.columns)) for name in absent}
            hint = hints.pop() if len(hints) == 1 else ""
            raise DataError(
                f"{count(len(absent), 'column')} the model was trained on missing: {some(absent, 10)}.{hint}",
                fix="Add them; a column may be left empty where a value is not known.",
            )
        frame = frame.reset_index(drop=True)
        blocks = [column.encode(frame[column.name]) for column in self.columns]
        return torch.from_numpy(np.concatenate(blocks, axis=1))

    def encode(self, source: str | Path | Sequence[str | Path]) -> tuple[list[str], Tensor]:
        """Read one or several tables; the target column may be missing.

        Returns:
            ``row 1`` and so on, with the file's name in front where there are several; (N, features) float32.
        """
        paths = [Path(source)] if isinstance(source, str | Path) else [Path(item) for item in source]
        if not paths:
            raise DataError("No table was given.")
        texts = [column.name for column in self.columns if column.to_dict()["kind"] != "number"]
        names: list[str] = []
        parts = []
        for path in paths:
            frame, _ = read_table(path, texts)
            parts.append(self.encode_frame(frame))
            prefix = f"{path.name} " if len(paths) > 1 else ""
            names += [f"{prefix}row {row}" for row in range(1, len(frame) + 1)]
        return names, torch.cat(parts)

    def decode_picture(self, sample: Tensor) -> bytes | None:
        """Return None: a row of a table is no picture."""
        return None

    def to_dict(self) -> dict[str, Any]:
        return {"columns": [column.to_dict() for column in self.columns]}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TableInputs:
        """Read what :meth:`to_dict` wrote."""
        require("pandas", "Reading tables")
        from kudari.data.columns import column_from_dict

        return cls(tuple(column_from_dict(column) for column in raw["columns"]))
