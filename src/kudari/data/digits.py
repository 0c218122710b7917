"""The handwritten digits that ship inside scikit-learn: real data that need no download."""

from __future__ import annotations

import numpy as np
import torch

from kudari.data.assemble import assemble
from kudari.data.bundle import Bundle
from kudari.data.extras import require
from kudari.data.images import ImageInputs
from kudari.data.split import random_split
from kudari.data.target import named_classes


def load_digits(seed: int = 0) -> Bundle:
    """Load 1,797 pictures of handwritten digits, 8x8 pixels, 10 classes; 360 of them validate.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998 (its test part, as scikit-learn ships it).

    Args:
        seed: of the split, 0 or more.

    Returns:
        Inputs (N, 1, 8, 8) float32, light ink on a dark ground; targets 0 to 9.

    Raises:
        MissingExtraError: where scikit-learn is not installed.

    Example:
        >>> tuple(load_digits().train.inputs.shape)
        (1437, 1, 8, 8)
    """
    raw = require("sklearn.datasets", "The built-in digits").load_digits()
    pixels = torch.from_numpy(raw.images.astype(np.float32) / 16)[:, None]
    codes = raw.target.astype(np.int64)
    target = named_classes(codes, ["digit"], [str(digit) for digit in range(10)])
    split = random_split(codes, 0.2, seed)
    inputs = ImageInputs.fit(pixels[split.train])
    return assemble(
        name="digits",
        title="Handwritten digits, 8x8 pixels, 10 classes",
        noun="picture",
        kind="image",
        inputs=inputs,
        encode=lambda rows: inputs.standardise(pixels[rows]),
        target=target,
        split=split,
        names=[f"digit {number}" for number in range(len(codes))],
        said=(),
        about=["The digits are light on dark ground; new pictures to predict must be too."],
    )
