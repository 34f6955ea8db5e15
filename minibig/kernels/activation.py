"""gelu, exact and by tanh, and silu: each pass in one kernel."""

from .kernel import load
from .problem import ceil
from .rows import contiguous, empty, number_of

BLOCK, EACH = 256, 4  # threads, and numbers of each; as in activation.cuh


def activation(name, x):
    """As the op of that name: (y, backward); None where no kernel serves x."""
    number = number_of(x)
    if number is None:
        return None
    launch = (ceil(x.size, BLOCK * EACH),), (BLOCK,)
    x, y = contiguous(x), empty(x)
    load("activation_forward.cu", number)[f"{name}_forward"](*launch, x, y, x.size)

    def backward(dy):
        dx, dy = empty(x), contiguous(dy, like=x)
        kernel = load("activation_backward.cu", number)[f"{name}_backward"]
        kernel(*launch, x, dy, dx, x.size)
        return (dx,)

    return y, backward
