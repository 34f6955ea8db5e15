"""Convolution of images: patches laid out as columns, then one product of matrices.

Inside, the batch is the last axis, (C, H, W, B): a patch is copied in long runs, and
the product comes out as it is needed. The results are views of such arrays, so that a
stack of convolutions, pools and norms turns its images once. Chellapilla et al., "High
Performance Convolutional Neural Networks for Document Processing" (2006).
"""

import itertools
import math
from contextlib import contextmanager
from typing import NamedTuple

from ..backend import BLOCK, array_module, by_rows
from .elementwise import widen
from .narrow import long_product, wide_product
from .scratch import scratch


def conv2d(
    x, weight, bias, *, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1),
    groups=1, x_gradient=True,
):  # fmt: skip
    """Σ over channels and taps of weight * x, at every place of the image, + bias.

    x (B, C, H, W), weight (O, C / groups, kh, kw), bias (O,) or None -> (B, O, H', W').
    `padding`: zeros (above, below), (left, right). backward: dx is a convolution of dy
    with the turned kernel, and its columns give dW too; without `x_gradient` dx is None
    and dW comes from the columns of x, which a first layer has fewer of.
    """
    xp, kernel = array_module(x, weight, bias), weight.shape[2:]
    images, wide = batch_last(x), widen(weight)
    size = output_size(x.shape[2:], kernel, stride, padding, dilation)
    y = xp.empty((len(weight), *size, len(x)), wide.dtype)

    def forward_rows(windows, out):
        out = _folded(_turned(out), groups)  # (G, O / G, places), a view
        with _columns(windows, groups) as columns:
            wide_product(_grouped(wide, groups), columns, out)
        if bias is not None:
            out += bias.reshape(groups, -1, 1)

    def backward_rows(windows, dy):
        with _columns(windows, groups) as columns:
            return long_product(columns, _folded(_turned(dy), groups))

    view = kernel, stride, dilation, size
    with _in_margins(images, padding) as given:
        _by_blocks(forward_rows, _windows(given, *view), _turned(y))

    def backward(dy):
        dy = batch_last(dy)
        dbias = None if bias is None else dy.reshape(len(dy), -1).sum(1)
        if x_gradient and groups == 1 and 2 * len(images) <= len(dy):
            with _in_margins(images, padding) as given:
                dx, dweight = _backward_by_channels(given, wide, dy, stride, dilation)
            dx = batch_first(within(dx, padding)).astype(x.dtype, copy=False)
        elif x_gradient:
            dx, dweight = _backward(images, wide, dy, stride, padding, dilation, groups)
            dx = batch_first(dx).astype(x.dtype, copy=False)
        else:
            with _in_margins(images, padding) as given:
                windows = _windows(given, *view)
                parts = _by_blocks(backward_rows, windows, _turned(dy))
            dx, dweight = None, sum(parts).swapaxes(1, 2).reshape(weight.shape)
        return dx, _like(dweight, weight), _like(dbias, bias)

    return batch_first(y).astype(x.dtype, copy=False), backward


def _backward_by_channels(images, weight, dy, stride, dilation):
    """(dx, dweight) from the columns of x, fewer than those of dy where few channels
    become many. What a tap gives to dx is added where the tap looked."""
    xp, (out, channels, *kernel) = array_module(images), weight.shape
    size = dy.shape[1:3]
    seen = _windows(images, kernel, stride, dilation, size).transpose(1, 2, 3, 0, 4, 5)
    dy = dy.reshape(out, math.prod(dy.shape[1:]))  # (O, places)
    dx, weight = xp.zeros_like(images), weight.swapaxes(0, 1)
    dweight = xp.empty((channels, *kernel, out), weight.dtype)

    def serve(seen, dx, weight, dweight):
        count = len(seen) * math.prod(kernel)
        weight = weight.swapaxes(0, 1).reshape(out, count)
        with scratch(dx, seen.shape) as columns:  # (C, kh, kw, H', W', B)
            columns[...] = seen
            flat = columns.reshape(count, dy.shape[1])
            dweight[...] = long_product(flat[None], dy[None]).reshape(dweight.shape)
            wide_product(weight.T[None], dy[None], flat[None])
            for i, (_, v, h) in enumerate(taps(kernel, stride, dilation, size)):
                dx[:, v, h] += columns[:, i // kernel[1], i % kernel[1]]

    by_rows(serve, seen, dx, weight, dweight, size=seen.size, block=4 * BLOCK)
    return dx, dweight.transpose(3, 0, 1, 2)


def _backward(images, weight, dy, stride, padding, dilation, groups):
    """(dx, dweight), both from the columns of dy: see `_phases`."""
    xp, dweight = array_module(images), array_module(images).zeros_like(weight)
    dx = xp.zeros_like(images) if max(stride) > 1 else None
    rows, cols = (
        _phases(images.shape[1 + i], weight.shape[2 + i], stride[i], padding[i][0],
                dilation[i])
        for i in (0, 1)
    )  # fmt: skip
    margins = _margins(rows, dy.shape[1]), _margins(cols, dy.shape[2])
    with _in_margins(dy, margins) as dy:
        for v, h in itertools.product(rows, cols):
            place = slice(None), v.inputs, h.inputs
            corner = dy[:, v.first + margins[0][0] :, h.first + margins[1][0] :]
            taps = weight[:, :, v.taps, h.taps]
            size, spacing = images[place].shape[1:3], (v.spacing, h.spacing)
            windows = _windows(corner, taps.shape[2:], (1, 1), spacing, size)
            found, part = _backward_phase(images[place], taps, windows, groups)
            dweight[:, :, v.taps, h.taps] = part
            if dx is not None:
                dx[place] = found
    return found if dx is None else dx, dweight


def _backward_phase(images, taps, windows, groups):
    """(dx, the convolution of dy's `windows` with `taps`; the gradient of `taps`)."""
    out, inner, *kernel = taps.shape  # O, C / G
    turned = taps.reshape(groups, out // groups, inner, -1).swapaxes(1, 2)
    turned = turned.reshape(groups, inner, -1)  # (G, C / G, O / G · taps)
    images = array_module(images).ascontiguousarray(images)
    dx = array_module(images).empty_like(images)

    def rows(windows, images, dx):
        images, dx = _folded(_turned(images), groups), _folded(_turned(dx), groups)
        with _columns(windows, groups) as columns:
            wide_product(turned, columns, dx)
            return long_product(columns, images)  # (G, O / G · taps, C / G)

    part = sum(_by_blocks(rows, windows, _turned(images), _turned(dx)))
    part = part.reshape(groups, out // groups, -1, inner).swapaxes(2, 3)
    return dx, part.reshape(out, inner, *kernel)


class _Phase(NamedTuple):
    """Along one axis, the input rows that meet the same taps."""

    inputs: slice
    taps: slice  # from the last to the first
    first: int  # the row of dy that the last tap brings to the first input row
    spacing: int  # rows of dy from a tap to the next
    stop: int  # one past the last row of dy that is met


def _phases(size, kernel, stride, padding, dilation):
    """The _Phases of an axis.

    Tap i brings input row r to output row (r + padding - i dilation) / stride, if that
    is whole: rows of the same remainder by the stride share their taps, and on them dx
    is a plain convolution of dy.
    """
    found, apart = [], stride // math.gcd(stride, dilation)
    for remainder in range(min(stride, size)):
        start = remainder + padding
        taps = [i for i in range(kernel) if (start - i * dilation) % stride == 0]
        if taps:
            first = (start - taps[-1] * dilation) // stride
            last = (start - taps[0] * dilation) // stride
            inputs = slice(remainder, size, stride)
            stop = last + len(range(size)[inputs])
            spacing = apart * dilation // stride
            taps = slice(taps[-1], None, -apart)
            found.append(_Phase(inputs, taps, first, spacing, stop))
    return found


def _margins(phases, size):
    """Zeros that dy needs before and after its `size` rows."""
    before = max(0, *(-phase.first for phase in phases), 0)
    return before, max(0, *(phase.stop - size for phase in phases), 0)


# ---- images with the batch last -----------------------------------------------------


def batch_last(x):
    """(B, C, H, W) -> (C, H, W, B), contiguous: a view where the memory lies so."""
    return array_module(x).ascontiguousarray(widen(x).transpose(1, 2, 3, 0))


def batch_first(y):
    """(C, H, W, B) -> (B, C, H, W), a view."""
    return y.transpose(3, 0, 1, 2)


def padded(images, padding, value=0):
    """(C, H, W, B) with `value` around it; the images themselves where nothing is."""
    if not any(map(any, padding)):
        return images
    shape = _padded_shape(images, padding)
    out = array_module(images).empty(shape, images.dtype)
    return _fill(out, images, padding, value)


@contextmanager
def _in_margins(images, padding):
    """`padded` with zeros, for a while: memory that is used again."""
    if not any(map(any, padding)):
        yield images
        return
    with scratch(images, _padded_shape(images, padding)) as out:
        yield _fill(out, images, padding, 0)


def _padded_shape(images, padding):
    c, h, w, b = images.shape
    return c, h + sum(padding[0]), w + sum(padding[1]), b


def _fill(out, images, padding, value):
    (above, _), (left, _) = padding
    below, right = above + images.shape[1], left + images.shape[2]
    out[:, :above], out[:, below:] = value, value
    out[:, :, :left], out[:, :, right:] = value, value
    out[:, above:below, left:right] = images
    return out


def output_size(size, kernel, stride, padding, dilation):
    """(H', W') of a window that moves over an image of (H, W)."""
    return tuple(
        (n + sum(p) - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def _windows(images, kernel, stride, dilation, size):
    """(H', C, kh, kw, W', B): what each tap sees, a view that shares memory."""
    c, h, w, b = images.strides
    shape = size[0], len(images), *kernel, size[1], images.shape[3]
    down, right = dilation
    strides = h * stride[0], c, h * down, w * right, w * stride[1], b
    return array_module(images).lib.stride_tricks.as_strided(images, shape, strides)


def taps(kernel, stride, dilation, size):
    """For each place of the window, the index of what it sees in (C, H, W, B)."""
    down, right = (
        [slice(i * d, i * d + (n - 1) * s + 1, s) for i in range(k)]
        for k, s, d, n in zip(kernel, stride, dilation, size, strict=True)
    )
    return [(slice(None), v, h) for v in down for h in right]


def within(images, padding):
    """(C, H, W, B) without the padding."""
    (above, below), (left, right) = padding
    rows, cols = images.shape[1] - below, images.shape[2] - right
    return images[:, above:rows, left:cols]


def _by_blocks(function, windows, *arrays):
    """`by_rows`, in blocks of about 1 MB of columns."""
    return by_rows(function, windows, *arrays, block=4 * BLOCK)


@contextmanager
def _columns(windows, groups):
    """(G, C / G · taps, rows · W' · B): a column for each place of the kernel."""
    rows, channels, *kernel, width, batch = windows.shape
    with scratch(windows, (channels, *kernel, rows, width, batch)) as columns:
        columns[...] = windows.transpose(1, 2, 3, 0, 4, 5)
        depth = channels // groups * math.prod(kernel)
        yield columns.reshape(groups, depth, rows * width * batch)


def _folded(images, groups):
    """(G, C / G, places) of images (C, rows, W, B)."""
    channels, *places = images.shape
    return images.reshape(groups, channels // groups, math.prod(places))


def _grouped(weight, groups):
    """(G, O / G, C / G · taps)."""
    out = len(weight) // groups
    return weight.reshape(groups, out, math.prod(weight.shape[1:]))


def _turned(images):
    """Rows first, for `by_rows`, or back: (C, H, W, B) <-> (H, C, W, B)."""
    return images.swapaxes(0, 1)


def _like(gradient, parameter):
    return None if parameter is None else gradient.astype(parameter.dtype, copy=False)
