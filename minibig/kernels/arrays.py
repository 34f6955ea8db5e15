"""Arrays as kernels take them: their numbers' C++ names, their order, their address."""

import numpy as np

from .. import checks
from ..backend import array_module

NUMBERS = {"float32": "float", "float16": "float16", "bfloat16": "bfloat16"}


def ceil(n, step):
    """How many steps cover n."""
    return -(-n // step)


def number_of(*arrays):
    """What C++ calls the dtype of all `arrays` (None goes with any): "float", say.

    None where no kernel serves them: another dtype, several, or no numbers at all.
    """
    given = [x for x in arrays if x is not None]
    names = {x.dtype.name for x in given}
    if len(names) > 1 or not all(x.size for x in given):
        return None
    return NUMBERS.get(names.pop())


def empty(like, shape=None, dtype=None):
    """An array to be filled; on the emulator NaN shows what was left out."""
    xp, shape = array_module(like), like.shape if shape is None else shape
    dtype = like.dtype if dtype is None else np.dtype(dtype)
    return empty_in(xp, shape, dtype)


def empty_in(xp, shape, dtype):
    """The same for no array in sight."""
    if xp is np and checks.is_float(dtype):
        return np.full(shape, np.nan, dtype)
    return xp.empty(shape, dtype)


def contiguous(x, like=None):
    """x, in the order that kernels read, and in the dtype of `like`."""
    if x is None:
        return None
    dtype = x.dtype if like is None else like.dtype
    if x.flags.c_contiguous and x.dtype == dtype:  # two calls of CuPy less
        return x
    found = array_module(x).ascontiguousarray(x, dtype=dtype)
    return found.reshape(x.shape)  # NumPy's has one axis at least


def address_of(x):
    """Where an array begins."""
    return x.ctypes.data if array_module(x) is np else x.data.ptr
