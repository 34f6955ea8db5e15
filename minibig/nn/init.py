"""First values of weights, written in place; the names are torch.nn.init's.

Each draws from the stream "init" of `minibig.random`, in float32 or finer, on the CPU.
Notebook 04 shows what each does to the signal of a deep network.
"""

import math

import numpy as np

from ..autograd import no_grad
from ..random import generator


def _fill(tensor, array):
    with no_grad():
        return tensor.copy_(np.asarray(array, tensor.dtype))


def zeros_(tensor):
    """All zeros."""
    return _fill(tensor, 0)


def ones_(tensor):
    """All ones."""
    return _fill(tensor, 1)


def constant_(tensor, value):
    """All `value`."""
    return _fill(tensor, value)


def normal_(tensor, mean=0.0, std=1.0):
    """Normal distribution with the given mean and standard deviation."""
    return _fill(tensor, generator("init").normal(mean, std, tensor.shape))


def uniform_(tensor, a=0.0, b=1.0):
    """Spread evenly over [a, b)."""
    return _fill(tensor, generator("init").uniform(a, b, tensor.shape))


def fans(tensor):
    """(inputs, outputs) that one number of a weight (out, in, …) connects."""
    if tensor.ndim < 2:
        raise ValueError(
            f"fan-in and fan-out need a weight (out, in, …), not shape {tensor.shape}"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def xavier_uniform_(tensor, gain=1.0):
    """Even, variance gain² · 2 / (in + out) (Glorot and Bengio, AISTATS 2010)."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor, gain=1.0):
    """Normal, variance gain² · 2 / (in + out) (Glorot and Bengio, AISTATS 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))))


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu"):
    """Even, variance gain² / in, or gain² / out with `mode="fan_out"`.

    He et al., arXiv 1502.01852: forward or backward signals keep their size. `a` is the
    slope of a leaky ReLU below 0; with 0 the gain is that of ReLU, √2.
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu"):
    """Normal; the variance as for `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def _kaiming_std(tensor, a, mode, nonlinearity):
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode is "fan_in" or "fan_out", not {mode!r}')
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def calculate_gain(nonlinearity, param=0.01):
    """How much larger weights must be to keep the signal through a nonlinearity.

    `param` is the slope of a leaky ReLU below 0.
    """
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + param**2)),
    }
    if nonlinearity not in gains:
        raise ValueError(
            f"nonlinearity is one of {sorted(gains)}, not {nonlinearity!r}"
        )
    return gains[nonlinearity]
