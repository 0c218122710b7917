"""What is known about a run once it has ended: the data that reports draw and tools read. No torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Task = Literal["classification", "regression", "other"]


@dataclass(frozen=True)
class Choice:
    """One decision of the recipe, and its reason.

    Attributes:
        key: configuration key, such as ``optimizer.lr``.
        value: the value used, ready to print.
        why: one sentence.
        source: paper or measurement, empty where the user decided.
        by: who decided, ``"recipe"`` or ``"you"``.
    """

    key: str
    value: str
    why: str = ""
    source: str = ""
    by: Literal["recipe", "you"] = "recipe"


@dataclass(frozen=True)
class Decayed:
    """A parameter and whether weight decay reached it."""

    name: str
    shape: tuple[int, ...]
    weight_decay: float
    why: str = ""


@dataclass(frozen=True)
class Mistake:
    """One of the worst predictions on the validation set.

    Attributes:
        index: row in the validation set, or its file name.
        truth, predicted: class names, or values.
        loss: loss of this sample.
        confidence: probability given to the prediction, None for regression.
        picture: PNG bytes as base64 text, empty where the data are no pictures.
    """

    index: str
    truth: str
    predicted: str
    loss: float
    confidence: float | None = None
    picture: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The final model on the validation set.

    Attributes:
        classes: names in the order of the confusion matrix; empty for regression.
        confusion: ``confusion[truth][predicted]`` counts; empty for regression.
        residuals: ``(truth, predicted)`` pairs, at most 2,000; empty for classification.
        mistakes: the worst first.
    """

    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    residuals: tuple[tuple[float, float], ...] = ()
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """One finding of the doctor, as the report shows it."""

    fault: str
    severity: Literal["error", "warning", "note"]
    message: str
    fix: str = ""
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Facts:
    """All a report needs beside the configuration and the metrics; written as ``facts.json``.

    Attributes:
        name: the run's name, such as ``digits-3``.
        title: one line for people, such as "Handwritten digits, 10 classes".
        task: decides which evaluation plot is drawn.
        status: ``finished``, ``interrupted`` or ``failed``.
        command: shell command that reproduces the run.
        data: sentences about the data, such as "1,437 training and 360 validation samples".
        model: one line, such as "mlp 64-128-10, 9,610 parameters".
        optimizer: one line with the hyper-parameters.
        formula: LaTeX of the update rule, empty where unknown.
        steps, epochs, seconds: lengths of the run.
        samples_per_second: training throughput, validation excluded.
        metrics: final values, such as ``{"valid_accuracy": 0.986}``.
        recipe: decisions with their reasons.
        decay: every parameter with its weight decay.
        environment: name and version pairs, in the order to print.
        evaluation: plots of the final model, None where there is no validation set.
        diagnoses: findings of the doctor.
    """

    name: str
    title: str
    task: Task
    status: Literal["finished", "interrupted", "failed"]
    command: str
    data: tuple[str, ...]
    model: str
    optimizer: str
    steps: int
    epochs: float
    seconds: float
    samples_per_second: float
    formula: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    recipe: tuple[Choice, ...] = ()
    decay: tuple[Decayed, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    diagnoses: tuple[Diagnosis, ...] = ()

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Facts:
        """Read what :meth:`write` wrote."""
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        raw["data"] = tuple(raw["data"])
        raw["recipe"] = tuple(Choice(**c) for c in raw["recipe"])
        raw["decay"] = tuple(Decayed(**{**d, "shape": tuple(d["shape"])}) for d in raw["decay"])
        raw["diagnoses"] = tuple(Diagnosis(**d) for d in raw["diagnoses"])
        if raw["evaluation"] is not None:
            e = raw["evaluation"]
            raw["evaluation"] = Evaluation(
                classes=tuple(e["classes"]),
                confusion=tuple(tuple(row) for row in e["confusion"]),
                residuals=tuple((t, p) for t, p in e["residuals"]),
                mistakes=tuple(Mistake(**m) for m in e["mistakes"]),
            )
        return cls(**raw)
