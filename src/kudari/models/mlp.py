"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kudari.errors import ArgumentError, did_you_mean

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": F.tanh,
}


class MLP(nn.Module):
    """Linear layers with an activation and dropout between them; see :func:`mlp`."""

    def __init__(
        self, in_features: int, widths: Sequence[int], out_features: int, dropout: float, activation: str
    ) -> None:
        super().__init__()
        sizes = [in_features, *widths]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.output = nn.Linear(sizes[-1], out_features)
        self.dropout, self.activation = dropout, activation
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. 2015 for the hidden layers, variance 1 / fan_in for the output, zero biases."""
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            nonlinearity = "tanh" if self.activation == "tanh" else "relu"
            nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)
        nn.init.kaiming_normal_(self.output.weight, nonlinearity="linear")
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, ...) to (batch, out_features)."""
        if x.ndim > 2:
            x = x.flatten(1)
        activate = ACTIVATIONS[self.activation]
        for layer in self.hidden:
            x = activate(layer(x))
            if self.dropout:
                x = F.dropout(x, self.dropout, self.training)
        return self.output(x)  # type: ignore[no-any-return]

    def describe(self) -> str:
        """Return the widths, such as ``mlp 64-128-10``."""
        widths = [layer.in_features for layer in self.hidden if isinstance(layer, nn.Linear)]
        return "mlp " + "-".join(map(str, [*widths, self.output.in_features, self.output.out_features]))


def mlp(
    in_features: int,
    widths: Sequence[int],
    out_features: int,
    *,
    dropout: float = 0.0,
    activation: str = "relu",
) -> MLP:
    """Build a multilayer perceptron.

    Args:
        in_features: numbers per sample; inputs (batch, ...) of this many numbers are flattened.
        widths: of the hidden layers, each 1 or more; empty for a linear model.
        out_features: outputs per sample.
        dropout: share of each hidden layer's outputs zeroed while training, in [0, 1).
        activation: ``relu``, ``gelu``, ``silu`` or ``tanh``.

    Raises:
        ArgumentError: where one is out of range.

    Source: initialisation of He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015, eq. 10.

    Example:
        >>> mlp(64, [128], 10).describe()
        'mlp 64-128-10'
    """
    for name, size in (("in_features", in_features), ("out_features", out_features)):
        if size < 1:
            raise ArgumentError(f"mlp: {name}={size} is below 1.", fix="Pass 1 or more.")
    if any(width < 1 for width in widths):
        raise ArgumentError(
            f"mlp: widths={list(widths)} has a width below 1.", fix="Pass widths of 1 or more."
        )
    check_dropout("mlp", dropout)
    if activation not in ACTIVATIONS:
        raise ArgumentError(
            f"mlp: activation={activation!r} is not known.{did_you_mean(activation, ACTIVATIONS)}",
            fix=f"Allowed: {', '.join(ACTIVATIONS)}.",
        )
    return MLP(in_features, widths, out_features, dropout, activation)


def check_dropout(model: str, dropout: float) -> None:
    """Refuse a dropout outside [0, 1).

    Raises:
        ArgumentError: where it is.
    """
    if not 0 <= dropout < 1:
        raise ArgumentError(
            f"{model}: dropout={dropout} is outside [0, 1).",
            "At 1 nothing is left.",
            "Pass a share such as 0.1.",
        )
