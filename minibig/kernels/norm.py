"""Layer norm and RMS norm: a kernel forward, and three backward."""

from .kernel import load
from .problem import ceil
from .rows import MOST_ROWS, contiguous, empty, number_of, threads_for

MOST_PARTS = 128  # of the rows, which are summed up by themselves first


def layer_norm(x, weight, bias, *, eps=1e-5):
    """As the op `layer_norm`: (y, backward); None where no kernel serves x."""
    return _norm(x, weight, bias, eps, centre=True)


def rms_norm(x, weight, *, eps=1e-6):
    """As the op `rms_norm`: (y, backward); None where no kernel serves x."""
    served = _norm(x, weight, None, eps, centre=False)
    return served and (served[0], lambda dy: served[1](dy)[:2])


def _norm(x, weight, bias, eps, centre):
    """(y, backward), which answers (dx, dweight, dbias)."""
    number = number_of(x, weight, bias)
    if number is None or x.size // x.shape[-1] >= MOST_ROWS:
        return None
    template = number, str(centre).lower()
    width, count = x.shape[-1], x.size // x.shape[-1]
    launch = (count,), (threads_for(width),)
    x, weight, bias = contiguous(x), contiguous(weight), contiguous(bias)
    y, scale = empty(x), empty(x, (count,), "float32")
    mean = empty(scale) if centre else None
    load("norm_forward.cu", *template)["norm_forward"](
        *launch, x, weight, bias, y, mean, scale, width, eps
    )

    def backward(dy):
        dx, dy = empty(x), contiguous(dy, like=x)
        kernels = load("norm_backward.cu", *template)
        kernels["norm_backward"](*launch, x, weight, mean, scale, dy, dx, width)
        dweight, dbias = (None if p is None else empty(p) for p in (weight, bias))
        if dweight is None and dbias is None:
            return dx, None, None
        parts = empty(x, (min(MOST_PARTS, ceil(count, 64)), 2, width), "float32")
        kernels["norm_parts"](
            (ceil(width, 32), len(parts)), (256,),
            x, mean, scale, dy, parts, count, width,
        )  # fmt: skip
        kernels["norm_parameters"](
            (ceil(width, 256),), (256,), parts, dweight, dbias, len(parts), width
        )
        return dx, dweight, dbias

    return y, backward
