"""First values of weights, written in place; the names are torch.nn.init's.

Each draws from the stream "init" of `minibig.random`, in float32 or finer, on the CPU.
Notebook 04 shows what each does to the signal of a deep network.
"""

import math
from contextlib import contextmanager

import numpy as np

from .. import checks
from ..autograd import no_grad
from ..random import generator
from ..tensor import Tensor

_state = {"drawing": True}


@contextmanager
def skip_init():
    """Within it nothing is drawn: for models whose weights are loaded right after."""
    before, _state["drawing"] = _state["drawing"], False
    try:
        yield
    finally:
        _state["drawing"] = before


def _draw(tensor, kind, *settings):
    """`tensor`, filled by a method of the next generator unless drawing is off."""
    if not _state["drawing"]:
        return tensor
    return _fill(tensor, getattr(generator("init"), kind)(*settings, tensor.shape))


def _fill(tensor, array):
    with no_grad():
        return tensor.copy_(np.asarray(array, tensor.dtype))


def _tensor(tensor):
    return checks.kind("an initialiser: input", tensor, Tensor)


def zeros_(tensor):
    """All zeros."""
    return _fill(_tensor(tensor), 0)


def ones_(tensor):
    """All ones."""
    return _fill(_tensor(tensor), 1)


def constant_(tensor, value):
    """All `value`."""
    value = checks.number("constant_: value", value, finite=False)
    return _fill(_tensor(tensor), value)


def normal_(tensor, mean=0.0, std=1.0):
    """Normal distribution with the given mean and standard deviation."""
    mean = checks.number("normal_: mean", mean)
    std = checks.number("normal_: std", std, 0)
    return _draw(_tensor(tensor), "normal", mean, std)


def uniform_(tensor, a=0.0, b=1.0):
    """Spread evenly over [a, b)."""
    a = checks.number("uniform_: a", a)
    b = checks.number("uniform_: b", b, a)
    return _draw(_tensor(tensor), "uniform", a, b)


def fans(tensor):
    """(inputs, outputs) that one number of a weight (out, in, …) connects."""
    if _tensor(tensor).ndim < 2:
        raise ValueError(
            f"fan-in and fan-out need a weight (out, in, …), not shape {tensor.shape}"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def xavier_uniform_(tensor, gain=1.0):
    """Even, variance gain² · 2 / (in + out) (Glorot and Bengio, AISTATS 2010)."""
    bound = _gain(gain) * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor, gain=1.0):
    """Normal, variance gain² · 2 / (in + out) (Glorot and Bengio, AISTATS 2010)."""
    return normal_(tensor, 0.0, _gain(gain) * math.sqrt(2 / sum(fans(tensor))))


def _gain(gain):
    return checks.number("gain", gain, 0)


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
    checks.choice("mode", mode, ("fan_in", "fan_out"))
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def calculate_gain(nonlinearity, param=0.01):
    """How much larger weights must be to keep the signal through a nonlinearity.

    `param` is the slope of a leaky ReLU below 0.
    """
    param = checks.number("the slope below 0", param)
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + param**2)),
    }
    return gains[checks.choice("nonlinearity", nonlinearity, gains)]
