"""Layer norm and RMS norm: a kernel forward, and three backward."""

from .arrays import ceil, contiguous, empty, number_of
from .columns import COLUMNS, THREADS, parts_of
from .kernel import load
from .rows import MOST_ROWS, threads_for


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
        parts = empty(x, (parts_of(count), 2, width), "float32")
        blocks = ceil(width, COLUMNS)
        kernels["norm_parts"](
            (blocks, len(parts)), (THREADS,), x, mean, scale, dy, parts, count, width
        )
        kernels["norm_parameters"](
            (blocks,), (THREADS,), parts, dweight, dbias, len(parts), width
        )
        return dx, dweight, dbias

    return y, backward
