"""LeNet and ResNet: pictures seen through small windows. Taught by notebook 06.

LeCun et al., "Gradient-Based Learning Applied to Document Recognition" (Proceedings of
the IEEE 86, 1998); He et al., "Deep Residual Learning", arXiv 1512.03385.
"""

from dataclasses import dataclass

from .. import checks, nn
from .. import functional as F
from ..tensor import Tensor


@dataclass(frozen=True)
class LeNetConfig:
    """Square pictures of `image_size` pixels a side; channels of the two convolutions,
    units of the two hidden layers."""

    image_size: int = 28
    n_channels: int = 1
    n_classes: int = 10
    kernel_size: int = 5
    widths: tuple[int, int] = (6, 16)
    hidden: tuple[int, int] = (120, 84)
    dropout: float = 0.0

    def __post_init__(self):
        checks.whole("LeNetConfig: image_size", self.image_size, 4)
        for name in ("n_channels", "n_classes", "kernel_size"):
            checks.whole(f"LeNetConfig: {name}", getattr(self, name), 1)
        for name in ("widths", "hidden"):
            _whole_numbers(self, name, count=2)
        checks.probability("LeNetConfig: dropout", self.dropout, without=1)


class LeNet(nn.Module):
    """Logits of a picture's class: (B, channels, side, side) -> (B, n_classes).

    Departures from LeNet-5: ReLU and the largest of each window for tanh and learnt
    means; the second convolution sees all channels; edges are padded, so that small
    pictures fit; a linear output layer.
    """

    def __init__(self, config):
        c = self.config = checks.kind("LeNet: config", config, LeNetConfig)
        first, second = c.widths
        side = c.image_size // 2 // 2
        self.features = nn.Sequential(
            nn.Conv2d(c.n_channels, first, c.kernel_size, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, c.kernel_size, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(second * side * side, c.hidden[0]),
            nn.ReLU(),
            nn.Dropout(c.dropout),
            nn.Linear(*c.hidden),
            nn.ReLU(),
            nn.Dropout(c.dropout),
            nn.Linear(c.hidden[1], c.n_classes),
        )

    def forward(self, images):
        c = self.config
        checks.kind("LeNet: input", images, Tensor)
        shape = c.n_channels, c.image_size, c.image_size
        if images.ndim != 4 or images.shape[1:] != shape:
            raise ValueError(
                f"LeNet takes pictures of (batch, {', '.join(map(str, shape))}), not "
                f"{images.shape}"
            )
        return self.classifier(self.features(images))


@dataclass(frozen=True)
class ResNetConfig:
    """`widths`: channels of each stage; from one to the next the side is halved.
    `n_block` residual blocks a stage."""

    n_channels: int = 3
    n_classes: int = 10
    widths: tuple[int, ...] = (16, 32, 64)
    n_block: int = 1

    def __post_init__(self):
        for name in ("n_channels", "n_classes", "n_block"):
            checks.whole(f"ResNetConfig: {name}", getattr(self, name), 1)
        _whole_numbers(self, "widths")


class ResidualBlock(nn.Module):
    """relu(x + f(x)), f two 3x3 convolutions, each with batch norm (figure 2).

    Where size or channels change, x goes through a 1x1 convolution (section 3.3, B).
    """

    def __init__(self, in_channels, out_channels, stride=1):
        self.conv1 = _conv(in_channels, out_channels, 3, stride)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv(out_channels, out_channels, 3)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                _conv(in_channels, out_channels, 1, stride),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """Logits of a picture's class: (B, channels, height, width) -> (B, n_classes).

    The network for small pictures of section 4.2. Departure: 1x1 convolutions in the
    place of padded shortcuts.
    """

    def __init__(self, config):
        c = self.config = checks.kind("ResNet: config", config, ResNetConfig)
        width = c.widths[0]
        self.conv = _conv(c.n_channels, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList()
        for stage, channels in enumerate(c.widths):
            for i in range(c.n_block):
                stride = 2 if stage and not i else 1
                self.blocks.append(ResidualBlock(width, channels, stride))
                width = channels
        self.classifier = nn.Linear(width, c.n_classes)

    def forward(self, images):
        x = F.relu(self.norm(self.conv(images)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean((2, 3)))  # (B, C) -> (B, n_classes)


def _conv(in_channels, out_channels, kernel_size, stride=1):
    """A convolution for a batch norm to follow: no bias, started after 1502.01852."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _whole_numbers(config, name, count=None):
    """Makes a tuple of a field's numbers; ValueError for none or another `count`."""
    kind, values = type(config).__name__, getattr(config, name)
    if not isinstance(values, (tuple, list)) or len(values) not in (
        range(1, 1000) if count is None else (count,)
    ):
        wanted = "whole numbers" if count is None else f"{count} whole numbers"
        raise ValueError(f"{kind}: {name} must be {wanted}, not {values!r}")
    for n in values:
        checks.whole(f"{kind}: {name}", n, 1)
    object.__setattr__(config, name, tuple(values))  # lists come from JSON
