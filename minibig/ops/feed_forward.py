"""A linear layer and its activation as one op: how a feed-forward net begins."""

from ..backend import use_kernel
from ..kernels.activation import activation as by_kernel
from ..kernels.arrays import number_of
from . import elementwise
from .matmul import linear
from .reduction import over_rows

ACTIVATIONS = {
    "gelu": elementwise.gelu,
    "gelu_tanh": elementwise.gelu_tanh,
    "silu": elementwise.silu,
}


def linear_activation(x, weight, bias, *, activation):
    """activation(x Wᵀ + b): (..., in), (out, in), (out,) or None -> (..., out).

    backward: that of the activation, then that of `linear`.
    """
    served = linear_activation.in_bfloat16(x, weight, bias, activation=activation)
    if served:
        return served
    h, of_linear = linear(x, weight, bias)
    y, of_activation = ACTIVATIONS[activation](h)
    return y, lambda dy: of_linear(*of_activation(dy))


def _by_kernel(x, weight, bias, *, activation):
    """The activation's kernel adds the bias: (..., out) is read and written once less.

    None where no kernel serves these arrays.
    """
    if bias is None or not use_kernel(x) or number_of(x, weight, bias) is None:
        return None
    h, of_linear = linear(x, weight, None)
    y, of_activation = by_kernel(activation, h, bias)

    def backward(dy):
        (dh,) = of_activation(dy)
        dx, dweight, _ = of_linear(dh)
        return dx, dweight, over_rows(dh.reshape(-1, len(bias)))

    return y, backward


linear_activation.in_bfloat16 = _by_kernel
