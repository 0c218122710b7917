"""Pictures to tensors and back."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kudari.data.extras import require
from kudari.data.words import count, some
from kudari.errors import DataError

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga",
)  # fmt: skip
"""Endings of the files that are taken for pictures."""

_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)
_DEEP = {"I;16": (65535,), "I;16B": (65535,), "I;16L": (65535,), "I": (255, 65535), "F": (1, 255, 65535)}
"""Grey modes of more than 8 bits, and the values that can be white: the first that no pixel exceeds."""

_GREY = ("1", "L", "LA", *_DEEP)
_READING = "Reading pictures"
T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What a file says about its picture before it is decoded.

    Attributes:
        width, height: in pixels, as shown (after the camera's rotation).
        grey: whether the file stores one channel.
        transparent: whether it stores transparency.
    """

    width: int
    height: int
    grey: bool
    transparent: bool


@dataclass(frozen=True)
class Bad:
    """A file that is no usable picture, and why."""

    path: Path
    reason: str


def read_headers(paths: Sequence[Path]) -> list[Header | Bad]:
    """Look at the headers of many files at once."""
    return _in_threads(_header, paths)


def read_pixels(
    paths: Sequence[Path], height: int, width: int, channels: int
) -> list[NDArray[np.uint8] | Bad]:
    """Decode many pictures at once, each to (height, width, channels) uint8.

    A picture of another shape is scaled to cover it and its centre is kept. Transparent pictures are laid on
    white; the first frame of an animation is used; rotation marks of cameras are applied.
    """
    return _in_threads(lambda path: _pixels(path, height, width, channels), paths)


def _in_threads(read: Callable[[Path], T], paths: Iterable[Path]) -> list[T]:
    """Pillow decodes without holding Python's lock, so threads use all cores."""
    require("PIL.Image", _READING)
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # oddities of files that decode all the same
        return list(pool.map(read, paths))


def _reason(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if "cannot identify" in text:
        return "not a picture"
    return text.splitlines()[0]


def _header(path: Path) -> Header | Bad:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if picture.getexif().get(0x0112, 1) >= 5:  # orientation: turned by a quarter
                width, height = height, width
            transparent = "A" in picture.getbands() or "transparency" in picture.info
            return Header(width, height, picture.mode in _GREY, transparent)
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        return Bad(path, _reason(error))


def _pixels(path: Path, height: int, width: int, channels: int) -> NDArray[np.uint8] | Bad:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            side = 2 * max(width, height)
            opened.draft(None, (side, side))  # JPEG: decode at a lower size, several times faster
            picture = _flat(ImageOps.exif_transpose(opened), "L" if channels == 1 else "RGB")
            if picture.size != (width, height):
                box = _covering_box(picture.width, picture.height, width, height)
                picture = picture.resize(
                    (width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0
                )
            return np.asarray(picture, dtype=np.uint8).reshape(height, width, channels)
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        return Bad(path, _reason(error))


def _flat(picture: Any, mode: str) -> Any:
    """Convert any mode of Pillow to ``L`` or ``RGB``."""
    from PIL import Image

    if picture.mode in _DEEP:
        values = np.asarray(picture).astype(np.float64)
        white = next(top for top in _DEEP[picture.mode] if top == 65535 or values.max() <= top)
        picture = Image.fromarray((values * (255 / white)).round().clip(0, 255).astype(np.uint8))
    elif "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _covering_box(
    width: int, height: int, to_width: int, to_height: int
) -> tuple[float, float, float, float]:
    """Return the largest centred box with the proportions of the result."""
    scale = min(width / to_width, height / to_height)
    left, top = (width - scale * to_width) / 2, (height - scale * to_height) / 2
    return left, top, left + scale * to_width, top + scale * to_height


def find_pictures(folder: Path) -> tuple[list[Path], int]:
    """Return all pictures below a folder, sorted, and the number of other files; hidden ones are ignored."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    return pictures, len(files) - len(pictures)


def bad_files_error(bad: Sequence[Bad], fix: str) -> DataError:
    """Return one error naming every unreadable file (the first 20 of many)."""
    lines = [f"\n  {item.path}: {item.reason}" for item in bad[:20]]
    rest = f"\n  and {len(bad) - 20:,} more" if len(bad) > 20 else ""
    return DataError(f"{count(len(bad), 'picture')} cannot be read:{''.join(lines)}{rest}\n", fix=fix)


@dataclass(frozen=True)
class ImageInputs:
    """Picture files as standardised tensors (N, channels, height, width).

    Attributes:
        height, width: in pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        mean, std: of each channel over the training split, of pixels in [0, 1].
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def kind(self) -> str:
        return "image"

    @classmethod
    def fit(cls, train: Tensor) -> ImageInputs:
        """Take the statistics of training pixels, (N, channels, height, width), uint8 or floats in [0, 1]."""
        scale = 255.0 if train.dtype == torch.uint8 else 1.0
        sums = torch.zeros(2, train.shape[1], dtype=torch.float64)
        for part in torch.split(
            train, 256
        ):  # float64 for a part at a time: a whole copy would be 8 times the data
            pixels = part.to(torch.float64) / scale
            sums += torch.stack([pixels.sum((0, 2, 3)), pixels.square().sum((0, 2, 3))])
        mean, square = sums / (train.numel() / train.shape[1])
        std = (square - mean.square()).clamp_min(0).sqrt()
        std = torch.where(std < 1e-6, torch.ones_like(std), std)
        _, channels, height, width = train.shape
        return cls(height, width, channels, tuple(mean.tolist()), tuple(std.tolist()))

    def standardise(self, pixels: Tensor) -> Tensor:
        """Turn pixels (N, channels, height, width), uint8 or floats in [0, 1], into model inputs, float32."""
        scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
        mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std))
        return pixels.to(torch.float32).div_(scale * std).sub_(mean / std)

    def encode(self, source: str | Path | Sequence[str | Path]) -> tuple[list[str], Tensor]:
        """Read files, or all pictures below folders; names are paths, relative where a folder was given.

        Raises:
            DataError: for missing files, unreadable files (all of them named), and folders without pictures.
        """
        sources = [Path(source)] if isinstance(source, str | Path) else [Path(item) for item in source]
        missing = [path for path in sources if not path.exists()]
        if missing:
            raise DataError(f"There is no {some(missing)}.", fix="Check the path.")
        named: list[tuple[str, Path]] = []
        for path in sources:
            inside = find_pictures(path)[0] if path.is_dir() else None
            if inside is not None and not inside:
                raise DataError(f"{path} holds no pictures.", fix=f"Known endings: {' '.join(SUFFIXES)}.")
            named += [(p.relative_to(path).as_posix(), p) for p in inside] if inside else [(str(path), path)]
        read = read_pixels([path for _, path in named], self.height, self.width, self.channels)
        bad = [item for item in read if isinstance(item, Bad)]
        if bad:
            raise bad_files_error(bad, "Replace or remove them.")
        if not read:
            raise DataError("No pictures were given.")
        pixels = torch.from_numpy(np.stack([item for item in read if not isinstance(item, Bad)]))
        return [name for name, _ in named], self.standardise(pixels.permute(0, 3, 1, 2))

    def decode_picture(self, sample: Tensor) -> bytes | None:
        """Return one encoded sample (channels, height, width) as PNG bytes."""
        Image = require("PIL.Image", "Writing pictures")
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.mean, self.std))
        pixels = (sample.detach().cpu() * std + mean).mul(255).round_().clamp_(0, 255).to(torch.uint8)
        array = pixels.permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(array[:, :, 0] if self.channels == 1 else array).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ImageInputs:
        """Read what :meth:`to_dict` wrote."""
        return cls(raw["height"], raw["width"], raw["channels"], tuple(raw["mean"]), tuple(raw["std"]))
