"""A trained model, rebuilt from the folder of its run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kudari.errors import CheckpointError, KudariError
from kudari.record import Facts, RunDir

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kudari.data import Pipeline


@dataclass(frozen=True)
class Trained:
    """A model and how raw inputs get into it; made by :func:`load_model`."""

    folder: RunDir
    pipeline: Pipeline
    weights: dict[str, Tensor]
    spec: dict[str, Any]

    def predict(self, paths: Sequence[Path], batch_size: int) -> tuple[list[str], list[dict[str, Any]]]:
        """Return a name and an answer for every sample in the files."""
        import torch

        names, inputs = self.pipeline.encode(list(paths))
        model = self._build(tuple(inputs.shape[1:]))
        with torch.inference_mode():
            outputs = [model(part) for part in torch.split(inputs, batch_size)] if len(inputs) else []
        answers = self.pipeline.describe_output(torch.cat(outputs)) if outputs else []
        return names, answers

    def _build(self, shape: tuple[int, ...]) -> nn.Module:
        import math

        import torch

        from kudari.models import build

        sizes = {"in_channels": shape[0]} if self.spec["name"] == "cnn" else {"in_features": math.prod(shape)}
        with torch.random.fork_rng(devices=[]):
            model = build({**self.spec, **sizes, "out_features": self.pipeline.outputs.features})
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"The weights of {self.folder.path} do not fit the model that its config.yaml describes.",
                why=str(error).splitlines()[-1].strip(),
                fix="Restore config.yaml as it was written by the run.",
            ) from error
        return model.eval()


def load_model(folder: RunDir) -> Trained:
    """Read everything a run's folder has about its model.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: ``config.yaml`` was changed to something that is no configuration.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from kudari.cli._config.load import validate_saved
    from kudari.data import Pipeline

    for path, fix in (
        (folder.pipeline, "It is written by `kudari train`; for a run made in Python use run.predict(x)."),
        (folder.model, _how_to_get_weights(folder)),
    ):
        if not path.is_file():
            raise CheckpointError(f"{path} is missing.", fix=fix)
    config = validate_saved(folder.config)
    try:
        weights = load_file(folder.model)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{folder.model} cannot be read: {error}.", fix="Train again, or restore it."
        ) from error
    try:
        pipeline = Pipeline.from_dict(json.loads(folder.pipeline.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{folder.pipeline} is damaged: {error}.") from error
    spec = {key: value for key, value in config.model.model_dump().items() if value is not None}
    if "name" not in spec:
        raise KudariError(
            f"{folder.config} does not say which model it is.", fix="Use a config.yaml that a run wrote."
        )
    return Trained(folder, pipeline, weights, spec)


def _how_to_get_weights(folder: RunDir) -> str:
    if folder.facts.is_file() and Facts.read(folder.facts).status == "failed":
        return f"The run failed. Train it again with a change, such as: kudari train {folder.config} lr=1e-4"
    return f"The run has not ended. Go on with it: kudari train --resume {folder.path}"
