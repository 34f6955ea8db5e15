"""MLP: layers of units, each fully connected to the one before.

Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors"
(Nature 323, 1986). Departures: ReLU for the sigmoid; dropout (JMLR 15, 2014) and batch
norm (arXiv 1502.03167) between the layers on demand. Taught by notebooks 04 and 05.
"""

from dataclasses import dataclass

from .. import checks, nn
from ..tensor import Tensor

ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


@dataclass(frozen=True)
class MLPConfig:
    """`sizes`: of the input, the hidden layers and the output, (64, 128, 10) say."""

    sizes: tuple[int, ...]
    activation: str = "relu"
    dropout: float = 0.0
    batch_norm: bool = False

    def __post_init__(self):
        if not isinstance(self.sizes, (tuple, list)) or len(self.sizes) < 2:
            raise ValueError(
                f"MLPConfig: sizes are those of input and output at least, (64, 10) "
                f"say, not {self.sizes!r}"
            )
        for n in self.sizes:
            checks.whole("MLPConfig: sizes", n, 1)
        object.__setattr__(self, "sizes", tuple(self.sizes))  # lists come from JSON
        checks.choice("MLPConfig: activation", self.activation, ACTIVATIONS)
        checks.probability("MLPConfig: dropout", self.dropout, without=1)
        checks.switch("MLPConfig: batch_norm", self.batch_norm)


class MLP(nn.Module):
    """(B, ...) with sizes[0] numbers in a row -> (B, sizes[-1]).

    Each hidden layer: linear, batch norm if asked for, activation, dropout.
    """

    def __init__(self, config):
        c = self.config = checks.kind("MLP: config", config, MLPConfig)
        *hidden, out = c.sizes[1:]
        width, layers = c.sizes[0], []
        for n in hidden:
            layers.append(nn.Linear(width, n, bias=not c.batch_norm))
            layers += [nn.BatchNorm1d(n)] if c.batch_norm else []
            layers.append(ACTIVATIONS[c.activation]())
            layers += [nn.Dropout(c.dropout)] if c.dropout else []
            width = n
        self.layers = nn.Sequential(*layers, nn.Linear(width, out))

    def forward(self, x):
        size = self.config.sizes[0]
        checks.kind("MLP: input", x, Tensor)
        if x.ndim < 2 or x.numel() != len(x) * size:
            raise ValueError(f"MLP takes (batch, {size}), not {x.shape}")
        return self.layers(x.reshape(len(x), size))
