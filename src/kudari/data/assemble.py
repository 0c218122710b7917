"""The last steps that all sources share: encode both parts of the split and say what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from kudari.data.bundle import Bundle, Kind, TensorData
from kudari.data.pipeline import Inputs, Pipeline
from kudari.data.split import Rows, Split
from kudari.data.target import Target
from kudari.data.words import count


def assemble(
    *,
    name: str,
    noun: str,
    kind: Kind,
    inputs: Inputs,
    encode: Callable[[Rows], Tensor],
    target: Target,
    split: Split,
    names: Sequence[str],
    said: Sequence[str],
    about: Sequence[str] = (),
    title: str = "",
) -> Bundle:
    """Return the bundle of a source that has been read, split and fitted.

    Args:
        name: short name of the data.
        noun: what one sample is called, such as "picture".
        kind: of the inputs.
        inputs: fitted on the training rows.
        encode: rows to model inputs.
        target: of all rows.
        split: which rows are which.
        names: of all rows.
        said: sentences about the source.
        about: sentences about the inputs.
        title: one line for people; made from the name where empty.
    """
    outputs = target.fit(split.train)
    train, valid = (
        TensorData(encode(rows), target.encode(outputs, rows)) for rows in (split.train, split.valid)
    )
    what = f"{len(target.classes)} classes" if target.classes else f"regression of {', '.join(target.names)}"
    sizes = f"{count(len(train), f'training {noun}')} and {count(len(valid), f'validation {noun}')}."
    sentences = [sizes, *said, *target.said, *about, split.said]
    return Bundle(
        name=name,
        title=title or f"{name}: {count(len(names), noun)}, {what}",
        task=target.task,
        train=train,
        valid=valid,
        classes=target.classes,
        target=", ".join(target.names),
        kind=kind,
        said=tuple(sentence for sentence in sentences if sentence),
        pipeline=Pipeline(inputs, outputs),
        valid_names=tuple(names[row] for row in split.valid),
    )
