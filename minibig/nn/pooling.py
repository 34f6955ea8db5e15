"""Pooling as layers. Taught by notebook 06."""

from .. import checks
from .. import functional as F
from ..images import pair, pool_sizes
from .module import Module


class MaxPool2d(Module):
    """The largest number in each window of images (B, C, H, W)."""

    def __init__(
        self, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False
    ):
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode
        pool_sizes("MaxPool2d", kernel_size, stride, padding)
        pair("dilation", dilation, 1)
        checks.switch("MaxPool2d: ceil_mode", ceil_mode)

    def forward(self, x):
        return F.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation,
            self.ceil_mode,
        )  # fmt: skip

    def extra_repr(self):
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window of images (B, C, H, W)."""

    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode=False,
        count_include_pad=True,
    ):  # fmt: skip
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad = count_include_pad
        pool_sizes("AvgPool2d", kernel_size, stride, padding)
        checks.switch("AvgPool2d: ceil_mode", ceil_mode)
        checks.switch("AvgPool2d: count_include_pad", count_include_pad)

    def forward(self, x):
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad,
        )  # fmt: skip

    def extra_repr(self):
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"
