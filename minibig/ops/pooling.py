"""Pooling of images: the largest number, or the mean, of each window.

A window is served tap by tap, each tap a strided view of the whole image; channels are
shared among the threads.
"""

import math

from ..backend import array_module
from .convolution import batch_first, batch_last, output_size, padded, within
from .convolution import taps as window_taps
from .scratch import by_large_rows


def max_pool2d(x, *, kernel, stride, padding, dilation=(1, 1)):
    """The largest number in each window; (B, C, H, W) -> (B, C, H', W').

    `padding` (above, below), (left, right) counts as -inf. backward: dy goes to the
    first of the largest, row by row.
    """
    xp = array_module(x)
    images = padded(batch_last(x), padding, -math.inf)
    size = output_size(x.shape[2:], kernel, stride, padding, dilation)
    taps = window_taps(kernel, stride, dilation, size)
    y = xp.empty((len(images), *size, len(x)), images.dtype)

    def forward_rows(images, y):
        y[...] = images[taps[0]]
        for tap in taps[1:]:
            xp.maximum(y, images[tap], out=y)

    apart = all(
        s > d * (k - 1) for k, s, d in zip(kernel, stride, dilation, strict=True)
    )

    def backward_rows(images, y, dy, dx):
        left = xp.ones(dy.shape, bool)  # windows whose largest was not met so far
        for tap in taps:
            largest = images[tap] == y
            largest &= left
            left ^= largest
            if apart:  # no two windows see the same
                xp.multiply(dy, largest, out=dx[tap])
            else:
                dx[tap] += dy * largest

    by_large_rows(forward_rows, images, y)

    def backward(dy):
        dx = xp.zeros_like(images)
        by_large_rows(backward_rows, images, y, batch_last(dy), dx)
        return (_inner(dx, padding, x),)

    return batch_first(y).astype(x.dtype, copy=False), backward


def avg_pool2d(x, *, kernel, stride, padding, counts):
    """The mean of each window; (B, C, H, W) -> (B, C, H', W').

    `padding` counts as zeros. `counts`: how many rows (H') and columns (W') of a window
    its sum is divided by. backward: dy is spread evenly.
    """
    xp = array_module(x)
    images = padded(batch_last(x), padding)
    size = output_size(x.shape[2:], kernel, stride, padding, (1, 1))
    taps = window_taps(kernel, stride, (1, 1), size)
    rows, cols = (xp.asarray(n, images.dtype) for n in counts)
    scale = 1 / (rows[:, None, None] * cols[:, None])  # (H', W', 1)
    y = xp.empty((len(images), *size, len(x)), images.dtype)

    def forward_rows(images, y):
        y[...] = images[taps[0]]
        for tap in taps[1:]:
            y += images[tap]
        y *= scale

    def backward_rows(dy, dx):
        share = dy * scale
        for tap in taps:
            dx[tap] += share

    by_large_rows(forward_rows, images, y)
    shape, dtype = images.shape, images.dtype
    like = x[:0]

    def backward(dy):
        dx = xp.zeros(shape, dtype)
        by_large_rows(backward_rows, batch_last(dy), dx)
        return (_inner(dx, padding, like),)

    return batch_first(y).astype(x.dtype, copy=False), backward


def _inner(dx, padding, x):
    """(B, C, H, W) without the padding, in the dtype of x."""
    return batch_first(within(dx, padding)).astype(x.dtype, copy=False)
