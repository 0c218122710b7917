"""A folder of class folders of pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kudari.data.assemble import assemble
from kudari.data.bundle import Bundle
from kudari.data.images import (
    SUFFIXES,
    Bad,
    Header,
    ImageInputs,
    bad_files_error,
    find_pictures,
    read_headers,
    read_pixels,
)
from kudari.data.options import LoadOptions
from kudari.data.split import Rows, Split, random_split
from kudari.data.tables import CSV_SUFFIXES, PARQUET_SUFFIXES, has_suffix
from kudari.data.target import named_classes
from kudari.data.words import count, some
from kudari.errors import ArgumentError, DataError

LARGEST_SIDE = 128
"""Pictures larger than this many pixels are scaled down unless image_size says otherwise."""

TABLE_SUFFIXES = (*CSV_SUFFIXES, *PARQUET_SUFFIXES, ".npz")
_TRAIN = ("train", "training")
_VALID = ("valid", "validation", "val", "test", "testing")


@dataclass(frozen=True)
class _Listing:
    """Files of a data set before anything is read."""

    paths: list[Path]
    codes: list[int]
    classes: list[str]
    in_valid: list[bool] | None
    said: list[str]


def load_image_folder(path: Path, options: LoadOptions) -> Bundle:
    """Load a folder with one sub-folder per class, or with ``train`` and ``valid`` folders of those.

    Raises:
        DataError: for unreadable pictures (all of them named), empty class folders, fewer than two classes,
            and data larger than the free memory.
    """
    if options.task == "regression":
        raise DataError(
            f"{path} is a folder of classes: task=regression does not fit.",
            fix="Leave task out, or give a table with a column of values.",
        )
    listing = _list_split(path) if _folder(path, _TRAIN) else _list_classes(path)
    pixels, good, about = _read(listing, options)
    codes = np.array(listing.codes, dtype=np.int64)[good]
    target = named_classes(codes, ["class"], listing.classes)
    if listing.in_valid is None:
        split = random_split(codes, options.valid_fraction, options.seed)
    else:
        split = _given_split(np.array(listing.in_valid)[good], codes, listing.classes)
    names = [listing.paths[row].relative_to(path).as_posix() for row in good]
    inputs = ImageInputs.fit(pixels[split.train])
    return assemble(
        name=path.resolve().name,
        noun="picture",
        kind="image",
        inputs=inputs,
        encode=lambda rows: inputs.standardise(pixels[rows]),
        target=target,
        split=split,
        names=names,
        said=listing.said,
        about=about,
    )


def _folder(path: Path, names: Sequence[str]) -> Path | None:
    """Return the first sub-folder with one of the names, in their order."""
    by_name = {child.name.lower(): child for child in _folders(path)}
    return next((by_name[name] for name in names if name in by_name), None)


def _folders(path: Path) -> list[Path]:
    return [child for child in sorted(path.iterdir()) if child.is_dir() and child.name[0] not in "._"]


def _list_classes(path: Path) -> _Listing:
    folders = _folders(path)
    files = [item for item in sorted(path.iterdir()) if has_suffix(item, TABLE_SUFFIXES) and item.is_file()]
    if files and not find_pictures(path)[0]:
        raise DataError(
            f"{path} holds no pictures but {some([item.name for item in files])}.",
            fix=f"Pass the file itself: {files[0]}.",
        )
    if not folders:
        raise DataError(
            f"{path} has no sub-folders.",
            "A folder of pictures is read as one sub-folder per class.",
            "Sort the pictures into sub-folders named after their classes, or pass a table or .npz file.",
        )
    found = {folder.name: find_pictures(folder) for folder in folders}
    empty = [name for name, (pictures, _) in found.items() if not pictures]
    if empty:
        raise DataError(
            f"No pictures in {count(len(empty), 'class folder')} of {path}: {some(empty, limit=20)}.",
            "The model would have outputs that nothing is learned for.",
            f"Remove or fill them. Known endings: {' '.join(SUFFIXES)}.",
        )
    if len(folders) == 1:
        raise DataError(
            f"{path} has only one class folder, {folders[0].name!r}.",
            "A classifier needs at least two classes to tell apart.",
            "Pass the folder that holds one sub-folder per class.",
        )
    others = sum(other for _, other in found.values())
    ignored = "1 other file was" if others == 1 else f"{others:,} other files were"
    said = [f"{ignored} ignored, having no ending of a picture."] if others else []
    paths = [path for pictures, _ in found.values() for path in pictures]
    codes = [code for code, (pictures, _) in enumerate(found.values()) for _ in pictures]
    return _Listing(paths, codes, list(found), None, said)


def _list_split(path: Path) -> _Listing:
    train_folder, valid_folder = _folder(path, _TRAIN), _folder(path, _VALID)
    assert train_folder is not None
    train = _list_classes(train_folder)
    if valid_folder is None:
        said = [*train.said, f"Only {train_folder.name}/ was read."]
        return _Listing(train.paths, train.codes, train.classes, None, said)
    valid = _list_classes(valid_folder)
    unknown = sorted(set(valid.classes) - set(train.classes))
    if unknown:
        raise DataError(
            f"{valid_folder.name}/ has classes that {train_folder.name}/ has not: {some(unknown)}.",
            "What was never trained cannot be recognised.",
            "Use the same class folders in both.",
        )
    said = [*train.said, *valid.said]
    absent = sorted(set(train.classes) - set(valid.classes))
    if absent:
        said.append(f"Not validated, because {valid_folder.name}/ does not have them: {some(absent)}.")
    test = _folder(path, ("test", "testing"))
    if test and test != valid_folder:
        said.append(f"{test.name}/ was left untouched.")
    said.append(
        f"Training pictures are those in {train_folder.name}/, validation those in {valid_folder.name}/."
    )
    code_of = {name: code for code, name in enumerate(train.classes)}
    codes = train.codes + [code_of[valid.classes[code]] for code in valid.codes]
    in_valid = [False] * len(train.paths) + [True] * len(valid.paths)
    return _Listing(train.paths + valid.paths, codes, train.classes, in_valid, said)


def _given_split(in_valid: np.ndarray, codes: Rows, classes: Sequence[str]) -> Split:
    train, valid = np.flatnonzero(~in_valid), np.flatnonzero(in_valid)
    lost = [name for code, name in enumerate(classes) if code not in codes[train]]
    if lost or not len(valid):
        raise DataError(f"No readable pictures are left for {some(lost) if lost else 'validation'}.")
    return Split(train, valid, "")


def _read(listing: _Listing, options: LoadOptions) -> tuple[Tensor, list[int], list[str]]:
    """Return pixels (N, C, H, W) uint8, the numbers of the files they came from, and what was decided."""
    headers = read_headers(listing.paths)
    known = [header for header in headers if isinstance(header, Header)]
    bad = [header for header in headers if isinstance(header, Bad)]
    height, width, said = choose_size(known, options.image_size) if known else (1, 1, "")
    channels = 1 if all(header.grey for header in known) else 3
    _check_memory(len(known), channels, height, width)
    candidates = [row for row, header in enumerate(headers) if isinstance(header, Header)]
    read = read_pixels([listing.paths[row] for row in candidates], height, width, channels)
    bad += [item for item in read if isinstance(item, Bad)]
    if bad and options.on_bad == "error":
        raise bad_files_error(bad, "Replace or remove them, or leave them out with on_bad=skip.")
    good = [row for row, item in zip(candidates, read, strict=True) if not isinstance(item, Bad)]
    if not good:
        raise bad_files_error(bad, "No picture is left. Replace them.")
    remarks = [said] if said else []
    remarks += _about_colours(known, channels)
    if bad:
        remarks.append(
            f"{count(len(bad), 'unreadable picture')} left out: {some([item.path.name for item in bad])}."
        )
    stacked = np.stack([item for item in read if not isinstance(item, Bad)])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2), good, remarks


def _about_colours(headers: Sequence[Header], channels: int) -> list[str]:
    said = []
    grey = sum(header.grey for header in headers)
    if channels == 3 and grey:
        said.append(f"{grey:,} of {count(len(headers), 'picture')} are grey and were read as colour.")
    transparent = sum(header.transparent for header in headers)
    if transparent:
        said.append(f"{count(transparent, 'picture')} with transparency were laid on white.")
    return said


def choose_size(headers: Sequence[Header], image_size: int | tuple[int, int] | None) -> tuple[int, int, str]:
    """Return the height and width all pictures get, and a sentence where that changes any.

    Args:
        headers: at least one.
        image_size: a side in pixels, or (height, width); None keeps a common size up to 128 pixels, scales
            larger ones down to 128, and makes mixed sizes squares of their median shorter side.
    """
    sizes = Counter((header.height, header.width) for header in headers)
    (height, width), _ = sizes.most_common(1)[0]
    if image_size is not None:
        to_height, to_width = (image_size, image_size) if isinstance(image_size, int) else image_size
        if to_height < 1 or to_width < 1:
            raise ArgumentError(f"image_size={image_size} is below 1 pixel.", fix="Pass 1 or more.")
        why = "as asked"
    elif len(sizes) == 1:
        scale = min(1.0, LARGEST_SIDE / max(height, width))
        to_height, to_width = max(1, round(height * scale)), max(1, round(width * scale))
        why = "image_size=N changes that"
    else:
        median = float(np.median([min(header.height, header.width) for header in headers]))
        to_height = to_width = min(LARGEST_SIDE, max(1, round(median)))
        why = "image_size=N changes that"
    if set(sizes) == {(to_height, to_width)}:
        return to_height, to_width, ""
    were = f"{width}x{height} pixels" if len(sizes) == 1 else f"of {len(sizes):,} different sizes"
    became = f"scaled to {to_width}x{to_height}, keeping their centre ({why})"
    return to_height, to_width, f"The pictures were {were} and are {became}."


def _check_memory(samples: int, channels: int, height: int, width: int) -> None:
    """Refuse before reading what will not fit: uint8 pixels and float32 inputs."""
    needed, free = samples * channels * height * width * 5, _available_bytes()
    if free and needed > 0.9 * free:
        raise DataError(
            f"{samples:,} pictures of {width}x{height} pixels need {needed / 2**30:.1f} GiB of memory; "
            f"{free / 2**30:.1f} GiB are free.",
            "The data are kept in memory.",
            "Pass a smaller image_size.",
        )


def _available_bytes() -> int:
    """Return the memory that can be used without swapping, 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
