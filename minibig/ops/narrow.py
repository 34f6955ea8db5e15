"""Products of small matrices, and of large ones in small pieces.

OpenBLAS copies large matrices into an order of its own before it multiplies; what takes
up to a million multiplications it computes from the numbers as they lie. A few rows do
not make up for the copy: cut into pieces, such products run up to twice as fast.
"""

import math

import numpy as np

from ..backend import array_module
from .scratch import aligned

SMALL = 10**6  # multiplications


def wide_product(a, b, out):
    """a @ b in `out`: (…, M, K), (…, K, N) -> (…, M, N), N much larger than M."""
    size = _piece(a.shape[-2] * a.shape[-1], b.shape[-1])
    if array_module(a) is not np:
        out[...] = a @ b
    elif size < 32:
        np.matmul(a, b, out=out)
    else:
        np.matmul(a[..., None, :, :], _cut(b, size), out=_cut(out, size))


def long_product(a, b):
    """Σ a @ bᵀ: (G, …, M, N), (G, …, K, N) -> (G, M, K), N much larger than both."""
    size = _piece(a.shape[-2] * b.shape[-2], a.shape[-1])
    if array_module(a) is np and size >= 256:
        a, b = _cut(a, size), _cut(b, size)
    products = a @ b.swapaxes(-1, -2)
    return products.sum(tuple(range(1, a.ndim - 2)))


def turned_product(a, b, out=None):
    """a @ bᵀ, (…, N, K), (…, M, K) -> (…, N, M), for many pairs: small matrices are
    multiplied twice as fast by a bᵀ that lies in its own order. Not for a few rows, nor
    where a broadcast b would be copied many times."""
    xp, turned = array_module(a), b.swapaxes(-1, -2)
    small = a.shape[-2] * b.shape[-2] * b.shape[-1] <= SMALL
    if small and a.shape[-2] >= 8 and 0 not in b.strides[:-2]:
        turned = xp.ascontiguousarray(turned)
    return xp.matmul(a, turned, out=out)


def _piece(work, length):
    """How long pieces are: a power of two that `length` is a multiple of."""
    most = max(SMALL // max(work, 1), 1).bit_length() - 1
    return math.gcd(length, 1 << most)


def _cut(x, size):
    """(…, M, N) as (…, pieces, M, size), a view."""
    return x.reshape(*x.shape[:-1], -1, size).swapaxes(-2, -3)


def panels(weight):
    """(G, K, N) as (G, panels, K, 32), contiguous, for `by_panels`."""
    gates, depth, width = weight.shape
    narrow = array_module(weight) is np and width % 32 == 0
    cut = weight.reshape(gates, depth, width // 32 if narrow else 1, -1)
    cut = cut.swapaxes(1, 2)
    out = aligned(weight, cut.shape)
    out[...] = cut
    return out


def by_panels(x, weight, out=None):
    """x (n, K) or (G, n, K), few rows, times the `panels` of a weight: (G, n, N)."""
    xp, (gates, count, _, width) = array_module(x), weight.shape
    if out is None:
        out = xp.empty((gates, x.shape[-2], count * width), x.dtype)
    if xp is not np:
        out[...] = x @ weight[:, 0]
        return out
    x = x[:, None] if x.ndim == 3 else x
    places = out.reshape(gates, out.shape[1], count, width).swapaxes(1, 2)  # a view
    np.matmul(x, weight, out=places)
    return out
