"""gelu, exact and by tanh, and silu, of x or of x + bias: each pass in one kernel."""

from .arrays import ceil, contiguous, empty, number_of
from .kernel import load

BLOCK, EACH = 256, 4  # threads, and numbers of each; as in activation.cuh


def activation(name, x, bias=None):
    """As the op of that name, of x + bias: (y, backward); None where no kernel serves.

    x (..., width), bias (width,). backward gives the gradient of x alone; the bias's is
    its sum over rows.
    """
    number = number_of(x, bias)
    if number is None:
        return None
    launch = (ceil(x.size, BLOCK * EACH),), (BLOCK,)
    x, y, bias = contiguous(x), empty(x), contiguous(bias)
    width = 1 if bias is None else bias.size
    kernel = load("activation_forward.cu", number)[f"{name}_forward"]
    kernel(*launch, x, bias, width, y, x.size)

    def backward(dy):
        dx, dy = empty(x), contiguous(dy, like=x)
        kernel = load("activation_backward.cu", number)[f"{name}_backward"]
        kernel(*launch, x, bias, width, dy, dx, x.size)
        return (dx,)

    return y, backward
