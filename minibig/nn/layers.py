"""The plain layers: Linear, Embedding, the norms, Dropout, activations.

Taught by notebooks 04 (Linear, activations), 05 (Dropout) and 11 (norms, Embedding).
"""

import math

from .. import checks
from .. import functional as F
from ..creation import ones, zeros
from ..tensor import Tensor
from . import init
from .module import Module, Parameter


def _positive(**sizes):
    for name, n in sizes.items():
        checks.whole(name, n, 1)


def _normalized(shape):
    """The sizes of the axes that a norm works on, given as a number or several."""
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not shape:
        raise ValueError("normalized_shape names no axis: give the width, 64 say")
    return tuple(checks.whole("normalized_shape", n, 1) for n in shape)


class Linear(Module):
    """x Wᵀ + b: (..., in_features) -> (..., out_features); weight (out, in).

    Starts evenly in ±1/√in, weight and bias, as PyTorch.
    """

    def __init__(self, in_features, out_features, bias=True):
        _positive(in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        checks.switch("bias", bias)
        bound = 1 / math.sqrt(in_features)
        self.weight = Parameter(zeros(out_features, in_features))
        init.uniform_(self.weight, -bound, bound)
        self.bias = Parameter(zeros(out_features)) if bias else None
        if bias:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self):
        bias = "" if self.bias is not None else ", bias=False"
        return f"{self.in_features}, {self.out_features}{bias}"


class Embedding(Module):
    """A row of numbers for each id: ids (...) -> (..., embedding_dim).

    Starts with the normal distribution, as PyTorch.
    """

    def __init__(self, num_embeddings, embedding_dim):
        _positive(num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(zeros(num_embeddings, embedding_dim))
        init.normal_(self.weight)

    def forward(self, ids):
        return F.embedding(ids, self.weight)

    def extra_repr(self):
        return f"{self.num_embeddings}, {self.embedding_dim}"


class LayerNorm(Module):
    """Each row with mean 0, variance 1, then scaled and shifted (arXiv 1607.06450)."""

    def __init__(self, normalized_shape, eps=1e-5, bias=True):
        self.normalized_shape = _normalized(normalized_shape)
        self.eps = checks.number("eps", eps, 0)
        self.weight = Parameter(ones(self.normalized_shape))
        self.bias = Parameter(zeros(self.normalized_shape)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}" + (
            "" if self.bias is not None else ", bias=False"
        )


class RMSNorm(Module):
    """Each row divided by its root mean square, then scaled (arXiv 1910.07467)."""

    def __init__(self, normalized_shape, eps=1e-6):
        self.normalized_shape = _normalized(normalized_shape)
        if len(self.normalized_shape) > 1:
            raise ValueError(
                f"RMSNorm normalises the last axis alone, not {self.normalized_shape}"
            )
        self.eps = checks.number("eps", eps, 0)
        self.weight = Parameter(ones(self.normalized_shape))

    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}"


class Dropout(Module):
    """In training, zeroes elements with probability p and scales the rest up."""

    def __init__(self, p=0.5):
        self.p = checks.probability("dropout", p)

    def forward(self, x):
        return F.dropout(x, self.p, self.training)

    def extra_repr(self):
        return f"p={self.p}"


class Flatten(Module):
    """All axes but the first joined: (N, ...) -> (N, C)."""

    def forward(self, x):
        return checks.kind("Flatten: input", x, Tensor).flatten(1)


class Identity(Module):
    """x as it came."""

    def forward(self, x):
        return x


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x):
        return F.relu(x)


class GELU(Module):
    """x Φ(x), or with approximate="tanh" GPT-2's formula (arXiv 1606.08415)."""

    def __init__(self, approximate="none"):
        words = ("none", "tanh")
        self.approximate = checks.choice("approximate", approximate, words)

    def forward(self, x):
        return F.gelu(x, self.approximate)

    def extra_repr(self):
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x σ(x) (arXiv 1702.03118)."""

    def forward(self, x):
        return F.silu(x)


class Sigmoid(Module):
    """1 / (1 + e^-x)."""

    def forward(self, x):
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x):
        return F.tanh(x)


class Softmax(Module):
    """e^x scaled to sum to 1 along `dim`."""

    def __init__(self, dim):
        self.dim = checks.whole("dim", dim)

    def forward(self, x):
        return F.softmax(x, self.dim)

    def extra_repr(self):
        return f"dim={self.dim}"
