"""Updates in blocks that fit a core's cache: each number crosses memory once a step.

An update is a dozen elementwise operations on the same few arrays. Done on whole arrays
each of them streams the model through memory, and needs a temporary of that size.
"""

import threading

import numpy as np

from ..backend import BLOCK, LARGE, array_module, by_rows

_kept = threading.local()


def in_blocks(function, *arrays, once=False):
    """What `function(*blocks)` returned for matching blocks of arrays of one shape.

    The function changes its blocks in place; on a GPU it gets the arrays whole. One
    that touches each number `once` has no use for the cache, and gets larger blocks.
    """
    if all(x.flags.c_contiguous for x in arrays):
        arrays = [x.reshape(-1) for x in arrays]
    return by_rows(function, *arrays, block=LARGE if once else BLOCK)


def scratch(like, which=0):
    """An array as `like` to write to first; the same memory again in the next block.

    Those of different `which` can be used together.
    """
    xp = array_module(like)
    if xp is not np or like.size > BLOCK:
        return xp.empty_like(like)
    buffers, key = vars(_kept), (like.dtype.char, which)
    if key not in buffers:
        buffers[key] = np.empty(BLOCK, like.dtype)
    return buffers[key][: like.size].reshape(like.shape)


def writable(tensor):
    """The array of a tensor, to be written to; a read-only one is copied first."""
    if not getattr(tensor.array.flags, "writeable", True):
        tensor.array = tensor.array.copy()
    return tensor.array
