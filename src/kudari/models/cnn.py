"""Small residual network for pictures of any size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from kudari.errors import ArgumentError
from kudari.models.mlp import check_dropout

DOWNSAMPLE = (1, 2, 4)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a way around them (He et al. 2015, "basic block")."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to (batch, out_channels, H / stride, W / stride), rounded up."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class CNN(nn.Module):
    """Stem, residual stages, average over all positions, linear output; see :func:`cnn`."""

    def __init__(
        self, in_channels: int, out_features: int, width: int, depth: int, downsample: int, dropout: float
    ) -> None:
        super().__init__()
        kernel = 3 if downsample == 1 else 2 * downsample - 1
        self.stem = nn.Conv2d(in_channels, width, kernel, downsample, padding=kernel // 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        widths = [width * 2**stage for stage in range(depth)]
        inputs = [width, *widths[:-1]]
        self.stages = nn.Sequential(
            *(ResidualBlock(a, b, 1 if a == b else 2) for a, b in zip(inputs, widths, strict=True))
        )
        self.dropout = dropout
        self.output = nn.Linear(widths[-1], out_features)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He et al. 2015 for convolutions; each block starts as its shortcut (zero second norm)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        for block in self.stages:
            assert isinstance(block, ResidualBlock)
            nn.init.zeros_(block.norm2.weight)
        nn.init.kaiming_normal_(self.output.weight, nonlinearity="linear")
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (batch, in_channels, H, W) to (batch, out_features)."""
        x = F.relu(self.stem_norm(self.stem(x)))
        x = self.stages(x).mean((2, 3))
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        return self.output(x)  # type: ignore[no-any-return]

    def describe(self) -> str:
        """Return the channels along the way, such as ``cnn 1-32-64-10``."""
        widths = [block.conv2.out_channels for block in self.stages if isinstance(block, ResidualBlock)]
        return "cnn " + "-".join(map(str, [self.stem.in_channels, *widths, self.output.out_features]))


def cnn(
    in_channels: int,
    out_features: int,
    *,
    width: int = 32,
    depth: int = 3,
    downsample: int = 1,
    dropout: float = 0.0,
) -> CNN:
    """Build a small residual network for pictures of any size.

    Args:
        in_channels: of the pictures (batch, in_channels, H, W).
        out_features: outputs per picture.
        width: channels of the first stage; each further one halves the picture and doubles the channels.
        depth: number of stages, 1 or more; :func:`depth_for` gives one that suits a size.
        downsample: factor by which the first convolution shrinks the picture: 1, 2 or 4.
        dropout: share of the averaged features zeroed while training, in [0, 1).

    Raises:
        ArgumentError: where one is out of range.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015, one basic block per
    stage; zero second norm from Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1.

    Example:
        >>> cnn(1, 10, width=16, depth=2).describe()
        'cnn 1-16-32-10'
    """
    sizes = {"in_channels": in_channels, "out_features": out_features, "width": width, "depth": depth}
    for name, size in sizes.items():
        if size < 1:
            raise ArgumentError(f"cnn: {name}={size} is below 1.", fix="Pass 1 or more.")
    if downsample not in DOWNSAMPLE:
        raise ArgumentError(f"cnn: downsample={downsample} is not known.", fix="Allowed: 1, 2, 4.")
    check_dropout("cnn", dropout)
    return CNN(in_channels, out_features, width, depth, downsample, dropout)


def depth_for(height: int, width: int) -> tuple[int, int]:
    """Return a depth and a downsample under which the last stage sees about 4 to 9 positions a side.

    Example:
        >>> depth_for(8, 8), depth_for(32, 32), depth_for(224, 224)
        ((2, 1), (4, 1), (4, 4))
    """
    side = min(height, width)
    downsample = 4 if side >= 160 else 2 if side >= 64 else 1
    side //= downsample
    depth = 1
    while depth < 4 and side >= 8:
        depth, side = depth + 1, side // 2
    return depth, downsample
