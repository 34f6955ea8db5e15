"""Dropout: numbers set to zero at random, the rest scaled up (JMLR 15, 2014)."""

import numpy as np

from ..backend import device_of, to_device, use_kernel
from ..kernels import dropout as kernel
from ..random import generator


def keep_mask(shape, p, like):
    """Booleans of `shape`, True with probability 1 - p, on the device of `like`.

    16 random bits an element, so p is rounded to a multiple of 1/65,536; from the
    stream "dropout", equal on both devices: a kernel makes NumPy's bits on a GPU.
    """
    count, least = int(np.prod(shape)), round(p * 65536)
    rng = generator("dropout")
    if use_kernel(like):
        return kernel.keep_mask(rng, count, least, like).reshape(shape)
    bits = np.frombuffer(rng.bytes(2 * count), "<u2")
    keep = (bits >= least).reshape(shape)
    return to_device(keep, device_of(like))


def dropout(x, *, p):
    """x with elements zeroed with probability p, the others divided by 1 - p.

    backward: dx = dy where x was kept, divided by 1 - p; 0 elsewhere.
    """
    if p == 1:
        return x * 0, lambda dy: (dy * 0,)
    keep = keep_mask(x.shape, p, x)
    scale = 1 / (1 - p)

    def backward(dy):
        dx = dy * keep
        dx *= scale
        return (dx,)

    y = x * keep
    y *= scale
    return y, backward
