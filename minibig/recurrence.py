"""Recurrent networks as functions of Tensors: one layer, one direction.

`nn.RNN` and `nn.LSTM` stack them.
"""

import numpy as np

from . import checks
from .arguments import check_floats
from .ops import recurrence
from .tensor import Tensor, apply


def rnn(
    x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, nonlinearity="tanh",
    lengths=None, reverse=False,
):  # fmt: skip
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), or relu of that.

    x (B, T, C), h0 (B, H), weights (H, C) and (H, H), biases (H,) -> every h (B, T, H)
    and the last (B, H). `lengths`: the number of steps of each row, after which h is 0
    and its last one stays. `reverse` goes from a row's last step to its first.
    """
    checks.choice("rnn: nonlinearity", nonlinearity, ("tanh", "relu"))
    parameters = weight_ih, weight_hh, bias_ih, bias_hh
    _check("rnn", 1, x, (h0,), *parameters)
    return apply(
        recurrence.rnn, x, h0, *parameters, nonlinearity=nonlinearity,
        lengths=checked_lengths("rnn", lengths, x), reverse=reverse,
    )  # fmt: skip


def lstm(
    x, h0, c0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, lengths=None,
    reverse=False,
):  # fmt: skip
    """The long short-term memory: every h (B, T, H), the last h and c (B, H).

    x (B, T, C), h0 and c0 (B, H), weights (4 H, C) and (4 H, H), biases (4 H,), gates
    in the order input, forget, cell, output. `lengths` and `reverse` as in `rnn`.
    """
    parameters = weight_ih, weight_hh, bias_ih, bias_hh
    _check("lstm", 4, x, (h0, c0), *parameters)
    return apply(
        recurrence.lstm, x, h0, c0, *parameters,
        lengths=checked_lengths("lstm", lengths, x), reverse=reverse,
    )  # fmt: skip


def _check(name, gates, x, states, weight_ih, weight_hh, *biases):
    parameters = {"weight_ih": weight_ih, "weight_hh": weight_hh}
    for key, value in zip(("bias_ih", "bias_hh"), biases, strict=True):
        parameters |= {} if value is None else {key: value}
    for key, value in zip(("h0", "c0"), states, strict=False):
        parameters[key] = value
    check_floats(name, input=x, **parameters)
    if x.ndim != 3 or not x.shape[1]:
        raise ValueError(
            f"{name} takes (batch, at least one step, width), not {x.shape}"
        )
    hidden = weight_hh.shape[-1] if weight_hh.ndim else 0
    shapes = {
        "weight_ih": (gates * hidden, x.shape[2]),
        "weight_hh": (gates * hidden, hidden),
        "bias_ih": (gates * hidden,),
        "bias_hh": (gates * hidden,),
        "h0": (len(x), hidden),
        "c0": (len(x), hidden),
    }
    for key, value in parameters.items():
        if value.shape != shapes[key]:
            raise ValueError(
                f"{name}: {key} {value.shape} should be {shapes[key]} for input "
                f"{x.shape} and {hidden} hidden units"
            )


def checked_lengths(name, lengths, x):
    """Lengths as a NumPy array (B,), each from 1 to T; None stays None."""
    if lengths is None:
        return None
    array = lengths.numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)
    if array.dtype.kind not in "iu" or array.shape != x.shape[:1]:
        raise ValueError(
            f"{name}: lengths are a whole number for each of the {len(x)} rows, not "
            f"{array.dtype} of {array.shape}"
        )
    if array.size and not 1 <= array.min() <= array.max() <= x.shape[1]:
        raise ValueError(
            f"{name}: lengths from {array.min()} to {array.max()}, but rows have 1 to "
            f"{x.shape[1]} steps"
        )
    return array.astype("int64")
