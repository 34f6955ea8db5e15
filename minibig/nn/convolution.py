"""Convolution as a layer. Taught by notebook 06."""

import math

from .. import checks
from .. import functional as F
from ..creation import zeros
from ..images import conv_padding, pair
from . import init
from .module import Module, Parameter


class Conv2d(Module):
    """Images (B, in_channels, H, W) -> (B, out_channels, H', W').

    Sizes are a number or a pair; `padding` also "same" or "valid". The weight is
    (out, in / groups, kh, kw); it and the bias start evenly in ±1/√fan-in, as PyTorch.
    """

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1,
        groups=1, bias=True,
    ):  # fmt: skip
        checks.whole("in_channels", in_channels, 1)
        checks.whole("out_channels", out_channels, 1)
        if in_channels % checks.whole("groups", groups, 1) or out_channels % groups:
            raise ValueError(
                f"groups {groups} must divide in_channels {in_channels} and "
                f"out_channels {out_channels}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride, self.dilation = (
            pair("stride", stride, 1),
            pair("dilation", dilation, 1),
        )
        conv_padding(padding, self.kernel_size, self.stride, self.dilation)
        self.padding = (
            padding if isinstance(padding, str) else pair("padding", padding, 0)
        )
        self.groups = groups
        shape = out_channels, in_channels // groups, *self.kernel_size
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = Parameter(zeros(*shape))
        init.uniform_(self.weight, -bound, bound)
        self.bias = Parameter(zeros(out_channels)) if bias else None
        if bias:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x):
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation,
            self.groups,
        )  # fmt: skip

    def extra_repr(self):
        said = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
        usual = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
        for name, value in usual.items():
            if getattr(self, name) != value:
                said += f", {name}={getattr(self, name)!r}"
        return said + ("" if self.bias is not None else ", bias=False")
