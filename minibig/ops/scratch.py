"""Memory for what a block of work needs for a moment, and large blocks.

The system hands out large arrays as pages that are filled with zeros when first
touched: for a column of patches that takes longer than to write it. Each thread keeps
its own, which still lie in its core's cache.
"""

import math
import threading
from contextlib import contextmanager

import numpy as np

from ..backend import LARGE, array_module, by_rows

KEPT = 1 << 23  # elements of the largest array that is kept
LINE = 64  # bytes of a cache line, and of the longest vector


class _Free(threading.local):
    def __init__(self):
        self.arrays = []  # flat


_free = _Free()


@contextmanager
def scratch(like, shape):
    """An array of `shape`, of the dtype and on the device of `like`, for a while.

    What stands in it is arbitrary, and afterwards others write there.
    """
    count = math.prod(shape)
    flat = _free.arrays.pop() if _free.arrays else None
    fits = type(flat) is type(like) and flat.dtype == like.dtype and flat.size >= count
    if not fits:
        flat = aligned(like, (count,))
    yield flat[:count].reshape(shape)
    if flat.size <= KEPT:
        _free.arrays.append(flat)


def aligned(like, shape):
    """A new array of `shape`, of the dtype and on the device of `like`.

    It starts with a cache line: from elsewhere each vector would lie in two, and a
    small product takes up to half as long again.
    """
    xp, count = array_module(like), math.prod(shape)
    if xp is not np:
        return xp.empty(shape, like.dtype)
    flat = np.empty(count + LINE // like.itemsize, like.dtype)
    start = -flat.ctypes.data % LINE // like.itemsize
    return flat[start : start + count].reshape(shape)


def by_large_rows(function, first, *others):
    """`by_rows` in blocks of about 2 MB: where a block makes many short calls, the
    threads would wait for one another more than they gain from the cache."""
    return by_rows(function, first, *others, block=LARGE)
