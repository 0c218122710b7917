"""The keys of a configuration, their types and ranges.

A description says what is allowed; error messages quote it. None means "let Kudari choose"; for
``clip_norm``, null that was written means "no limit".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


def _threads(value: Any) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError("wrong threads")


def _device(value: Any) -> str:
    if isinstance(value, str):
        kind, colon, index = value.partition(":")
        if (kind in ("auto", "cpu", "mps") and not colon) or (
            kind == "cuda" and (index.isdigit() or not colon)
        ):
            return value
    raise ValueError("wrong device")


def _plain_size(value: int | tuple[int, int]) -> int | list[int]:
    return list(value) if isinstance(value, tuple) else value


def _image_size(value: Any) -> int | tuple[int, int]:
    sides = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in sides):
        raise ValueError("wrong image size")
    return (sides[0], sides[1]) if len(sides) == 2 else int(sides[0])


ImageSize = Annotated[int | tuple[int, int], PlainValidator(_image_size), PlainSerializer(_plain_size)]
Threads = Annotated[int | Literal["auto"], PlainValidator(_threads)]
Device = Annotated[str, PlainValidator(_device), PlainSerializer(str)]


class Block(BaseModel):
    """A block of keys: no unknown key, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataConfig(Block):
    path: str | None = Field(
        default=None, description="digits, or the path of an image folder, a .csv, .parquet or .npz file"
    )
    target: str | None = Field(default=None, description="the name of the column to predict")
    task: Literal["classification", "regression"] | None = Field(
        default=None, description="classification or regression"
    )
    valid_fraction: float = Field(
        default=0.2,
        gt=0.0,
        lt=1.0,
        description="a number between 0 and 1 (the share of samples held back for validation)",
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        description="a whole number of 0 or more (the same number holds back the same samples)",
    )
    image_size: ImageSize | None = Field(
        default=None, description="a number of pixels along each side (64), or height and width ([48, 64])"
    )
    on_bad: Literal["error", "skip"] = Field(
        default="error", description="error or skip (what to do with samples that cannot be read)"
    )
    random_shift: int | None = Field(
        default=None,
        ge=0,
        description="a whole number of 0 or more (pixels by which training pictures are shifted at most)",
    )
    random_flip: bool | None = Field(
        default=None, description="true or false (mirror half of the training pictures left to right)"
    )


class ModelConfig(Block):
    name: Literal["mlp", "cnn"] | None = Field(default=None, description="mlp or cnn")
    widths: list[PositiveInt] | None = Field(
        default=None, description="a list of layer sizes such as [128] or [256, 128], each 1 or more"
    )
    width: PositiveInt | None = Field(
        default=None, description="a whole number of 1 or more (channels of the first stage)"
    )
    depth: PositiveInt | None = Field(
        default=None, description="a whole number of 1 or more (residual stages)"
    )
    downsample: Literal[1, 2, 4] | None = Field(
        default=None, description="1, 2 or 4 (how much the first convolution shrinks the picture)"
    )
    dropout: Fraction | None = Field(default=None, description="a number from 0 up to, not including, 1")
    activation: Literal["relu", "gelu", "tanh", "silu"] | None = Field(
        default=None, description="relu, gelu, tanh or silu"
    )


class LossConfig(Block):
    name: Literal["cross_entropy", "mse", "l1", "huber"] | None = Field(
        default=None, description="cross_entropy for classes; mse, l1 or huber for values"
    )
    label_smoothing: Fraction | None = Field(
        default=None, description="a number from 0 up to, not including, 1"
    )


class OptimizerConfig(Block):
    """``name``, ``lr`` and ``weight_decay``; every other key is a hyper-parameter checked against the
    optimizer."""

    model_config = ConfigDict(extra="allow")

    name: str | None = Field(
        default=None, description="the name of an optimizer; `kudari optim list` prints them"
    )
    lr: float | None = Field(default=None, gt=0.0, description="a number above 0 (the peak learning rate)")
    weight_decay: float | None = Field(default=None, ge=0.0, description="a number of 0 or more")


class Config(Block):
    data: DataConfig = Field(default=DataConfig(), description="a path, or a block of keys")
    model: ModelConfig = Field(default=ModelConfig(), description="a name, or a block of keys")
    loss: LossConfig = Field(default=LossConfig(), description="a name, or a block of keys")
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="a name, or a block of keys")
    schedule: str | None = Field(
        default=None,
        description="an expression such as warmup_cosine, constant, or warmup('5%') >> cosine(floor=0.1)",
    )
    epochs: PositiveInt | None = Field(
        default=None, description="a whole number of 1 or more (passes over the data)"
    )
    steps: PositiveInt | None = Field(
        default=None, description="a whole number of 1 or more (optimizer steps)"
    )
    batch_size: PositiveInt | None = Field(
        default=None, description="a whole number of 1 or more (samples in a batch)"
    )
    accumulate: int = Field(
        default=1, ge=1, description="a whole number of 1 or more (batches added up before each step)"
    )
    clip_norm: float | None = Field(
        default=None,
        gt=0.0,
        description="a number above 0 (the largest gradient norm let through), or null for no limit",
    )
    metrics: list[str] | None = Field(
        default=None, description="a list of accuracy, error, top5, perplexity, mae, rmse or r2"
    )
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="fp32 or bf16")
    seed: int = Field(default=0, ge=0, lt=2**63, description="a whole number of 0 or more")
    device: Device = Field(default="auto", description="auto, cpu, cuda, cuda:0, cuda:1 ... or mps")
    threads: Threads = Field(default="auto", description="auto, or a whole number of 1 or more")
    log_every: PositiveInt | None = Field(
        default=None, description="a whole number of 1 or more (steps between two lines of the metrics log)"
    )
    eval_every: PositiveInt | None = Field(
        default=None, description="a whole number of 1 or more (steps between two validations)"
    )
    save_every: PositiveInt | None = Field(
        default=None, description="a whole number of 1 or more (steps between two checkpoints)"
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, description="a whole number of 1 or more (newest checkpoints that stay)"
    )
    keep: Literal["last", "best"] = Field(
        default="last", description="last or best (which weights are left at the end)"
    )
    out: str | None = Field(
        default=None, description="the folder of the run; runs/NAME-1, runs/NAME-2 ... if not given"
    )
    from_recipe: list[str] = Field(
        default_factory=list,
        description="a list of keys that were not set by hand, in a file that Kudari wrote",
    )


def is_known(path: tuple[str, ...]) -> bool:
    """Whether ``path`` is a key of the configuration (any hyper-parameter counts for the optimizer)."""
    return path in leaves() or (len(path) == 2 and path[0] == "optimizer")


def leaves() -> dict[tuple[str, ...], str]:
    """Every key that holds a value, with what is allowed there."""
    found: dict[tuple[str, ...], str] = {}
    for name, info in Config.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Block):
            found.update({(name, key): sub.description or "" for key, sub in kind.model_fields.items()})
        else:
            found[(name,)] = info.description or ""
    return found
