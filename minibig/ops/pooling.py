"""Pooling of images: the largest number, or the mean, of each window.

A window is served tap by tap, each tap a strided view of the whole image; channels are
shared among the threads.
"""

import math

from ..backend import array_module
from .convolution import batch_first, batch_last, output_size, padded
from .scratch import by_large_rows


def max_pool2d(x, *, kernel, stride, padding, dilation=(1, 1)):
    """The largest number in each window; (B, C, H, W) -> (B, C, H', W').

    `padding` (above, below), (left, right) counts as -inf. backward: dy goes to the
    first of the largest, row by row.
    """
    xp = array_module(x)
    images = padded(batch_last(x), padding, -math.inf)
    size = output_size(x.shape[2:], kernel, stride, padding, dilation)
    taps = _taps(kernel, stride, dilation, size)
    y = xp.empty((len(images), *size, len(x)), images.dtype)

    def forward_rows(images, y):
        y[...] = images[taps[0]]
        for tap in taps[1:]:
            xp.maximum(y, images[tap], out=y)

    def backward_rows(images, y, dy, dx):
        left = dy.copy()  # what has found no place so far
        for tap in taps:
            share = left * (images[tap] == y)
            left -= share
            dx[tap] += share

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
    taps = _taps(kernel, stride, (1, 1), size)
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


def _taps(kernel, stride, dilation, size):
    """For each place of the window, the index of what it sees in (C, H, W, B)."""
    down, right = (
        [slice(i * d, i * d + (n - 1) * s + 1, s) for i in range(k)]
        for k, s, d, n in zip(kernel, stride, dilation, size, strict=True)
    )
    return [(slice(None), v, h) for v in down for h in right]


def _inner(dx, padding, x):
    """(B, C, H, W) without the padding, in the dtype of x."""
    (above, below), (left, right) = padding
    rows, cols = dx.shape[1] - below, dx.shape[2] - right
    return batch_first(dx[:, above:rows, left:cols]).astype(x.dtype, copy=False)
