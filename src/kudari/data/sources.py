"""From a path to data ready to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kudari.data.bundle import Bundle
from kudari.data.options import LoadOptions, OnBad
from kudari.data.tables import CSV_SUFFIXES, PARQUET_SUFFIXES, has_suffix
from kudari.errors import DataError


def _table(path: Path, options: LoadOptions) -> Bundle:
    from kudari.data.extras import require

    require("pandas", "Reading tables")
    from kudari.data.table_file import load_table

    return load_table(path, options)


def _npz(path: Path, options: LoadOptions) -> Bundle:
    from kudari.data.array_file import load_npz

    return load_npz(path, options)


def _folder(path: Path, options: LoadOptions) -> Bundle:
    from kudari.data.image_folder import load_image_folder

    return load_image_folder(path, options)


_READERS: tuple[tuple[tuple[str, ...], Callable[[Path, LoadOptions], Bundle]], ...] = (
    (CSV_SUFFIXES, _table),
    (PARQUET_SUFFIXES, _table),
    ((".npz",), _npz),
)


def load_path(
    path: str | Path,
    *,
    target: str | None = None,
    task: str | None = None,
    valid_fraction: float = 0.2,
    seed: int = 0,
    image_size: int | tuple[int, int] | None = None,
    on_bad: OnBad = "error",
) -> Bundle:
    """Load a folder of class folders of pictures, a CSV or Parquet table, or an .npz with X and y.

    Everything inferred and decided is in the bundle's ``said``. The split is stratified for classification
    and a pure function of (data, seed). Sub-folders ``train`` and ``valid`` (or ``val``, ``test``) are kept.

    Args:
        path: the folder or file.
        target: column to predict; None takes ``target``, ``label``, ``class`` or ``y``, else the last column.
        task: ``classification`` or ``regression``; None infers it.
        valid_fraction: share of the samples set aside for validation, inside (0, 1).
        seed: of the split, 0 or more.
        image_size: side of the pictures in pixels, or (height, width); None chooses.
        on_bad: ``error`` refuses unreadable pictures and rows without a target, ``skip`` leaves them out.

    Raises:
        DataError: for data that cannot be trained on as they are.
        ArgumentError: for arguments out of range.
        MissingExtraError: where pillow, pandas or pyarrow is needed and not installed.

    Example:
        >>> bundle = load_path("flowers/", image_size=64)  # doctest: +SKIP
        >>> print(*bundle.said, sep="\\n")  # doctest: +SKIP
    """
    options = LoadOptions(target, task, valid_fraction, seed, image_size, on_bad)
    path = Path(path)
    if not path.exists():
        raise DataError(f"There is no file or folder {path}.", fix="Check the path.")
    if path.is_dir():
        return _folder(path, options)
    for suffixes, reader in _READERS:
        if has_suffix(path, suffixes):
            return reader(path, options)
    raise DataError(
        f"{path} is not known by its ending.",
        fix="Give a folder of class folders of pictures, a .csv, .tsv or .parquet table, or an .npz.",
    )
