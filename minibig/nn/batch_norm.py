"""Batch norm as layers, with running statistics. Taught by notebook 06."""

import numpy as np

from .. import checks
from .. import functional as F
from ..autograd import no_grad
from ..creation import ones, zeros
from ..tensor import Tensor
from .module import Buffer, Module, Parameter


class _BatchNorm(Module):
    """What the two have in common; they differ in the shapes that they take."""

    axes, said = (), ""  # how many axes the input may have, and their names

    def __init__(
        self, num_features, eps=1e-5, momentum=0.1, affine=True,
        track_running_stats=True,
    ):  # fmt: skip
        n = self.num_features = checks.whole("num_features", num_features, 1)
        self.eps = checks.number("eps", eps, 0)
        if momentum is not None:
            checks.number("momentum", momentum, 0, 1)
        self.momentum = momentum
        self.weight = Parameter(ones(n)) if affine else None
        self.bias = Parameter(zeros(n)) if affine else None
        tracked = self.track_running_stats = track_running_stats
        self.running_mean = Buffer(zeros(n)) if tracked else None
        self.running_var = Buffer(ones(n)) if tracked else None
        count = np.zeros((), "int64")
        self.num_batches_tracked = Buffer(count) if tracked else None

    def forward(self, x):
        checks.kind(f"{type(self).__name__}: input", x, Tensor)
        if x.ndim not in self.axes or x.shape[1] != self.num_features:
            raise ValueError(
                f"{type(self).__name__}({self.num_features}) takes {self.said} with "
                f"{self.num_features} channels, not {x.shape}"
            )
        tracked = self.training and self.track_running_stats
        momentum = self.momentum
        if momentum is None:  # the mean of all batches so far
            momentum = 1 / (int(self.num_batches_tracked) + 1) if tracked else 0.0
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            self.training or not self.track_running_stats, momentum, self.eps,
        )  # fmt: skip
        if tracked:
            with no_grad():
                self.num_batches_tracked.add_(1)
        return y

    def extra_repr(self):
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    """Each channel of (B, C) or (B, C, L) with mean 0 and variance 1, then scaled.

    In training the statistics are the batch's, and running ones move towards them by
    `momentum` (None: they are the mean over all batches); in evaluation the running
    ones are used. Ioffe and Szegedy, arXiv 1502.03167.
    """

    axes, said = (2, 3), "(B, C) or (B, C, L)"


class BatchNorm2d(_BatchNorm):
    """As BatchNorm1d, for images (B, C, H, W): statistics over B, H and W."""

    axes, said = (4,), "(B, C, H, W)"
