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

APART = 16  # numbers between lines: a power of two apart they would share cache lines


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
        out = _by_row(out, groups)
        with _columns(windows, groups) as columns:
            wide_product(_grouped(wide, groups), columns, out)
        if bias is not None:
            out += bias.reshape(groups, 1, -1, 1)

    def backward_rows(windows, dy):
        with _columns(windows, groups) as columns:
            return long_product(columns, _by_row(dy, groups))

    view = kernel, stride, dilation, size
    with _in_margins(images, padding) as given:
        _by_blocks(forward_rows, _windows(given, *view), _turned(y))

    def backward(dy):
        dy = batch_last(dy)
        dbias = None if bias is None else dy.reshape(len(dy), -1).sum(1)
        few = groups == 1 and 2 * len(images) <= len(dy)
        few = few and stride == dilation == (1, 1)
        dx = None
        if x_gradient and not few:
            dx, dweight = _backward(images, wide, dy, stride, padding, dilation, groups)
        else:
            with _in_margins(images, padding) as given:
                windows = _windows(given, *view)
                parts = _by_blocks(backward_rows, windows, _turned(dy))
            dweight = _ungrouped(sum(parts).swapaxes(1, 2), weight.shape)
            if x_gradient:
                dx = _backward_to_few(images, wide, dy, padding)
        if x_gradient:
            dx = batch_first(dx).astype(x.dtype, copy=False)
        return dx, _like(dweight, weight), _like(dbias, bias)

    return batch_first(y).astype(x.dtype, copy=False), backward


def _backward_to_few(images, weight, dy, padding):
    """dx where few channels became many, stride and dilation 1.

    From the rows of dy that saw a row of the image, one product makes what each column
    of the kernel gives to it, and that is added where this column looked: more rows
    than the channels alone, and a product of few rows is slow.
    """
    out, channels, high, wide = weight.shape
    (_, height, width, batch), columns_seen = images.shape, dy.shape[2]
    padded_width = width + sum(padding[1])
    dx = array_module(images).zeros(
        (channels, height, padded_width, batch), images.dtype
    )
    turned = weight[:, :, ::-1].transpose(3, 1, 2, 0)  # (kw, C, kh, O)
    turned = turned.reshape(1, wide * channels, high * out)

    def rows(windows, dx):
        shape = len(dx), wide, channels, columns_seen, batch
        with _columns(windows, 1) as columns, scratch(dx, shape) as shifted:
            flat = shifted.reshape(1, len(dx), len(turned[0]), columns_seen * batch)
            wide_product(turned, columns, flat)
            for j in range(wide):
                dx[:, :, j : j + columns_seen] += shifted[:, j]

    phases = _phases(height, high, 1, padding[0][0], 1)
    margins = _margins(phases, dy.shape[1]), (0, 0)
    with _in_margins(dy, margins) as dy:
        seen = dy[:, phases[0].first + margins[0][0] :]
        size = height, columns_seen
        windows = _windows(seen, (high, 1), (1, 1), (1, 1), size)
        _by_blocks(rows, windows, _turned(dx))
    return within(dx, ((0, 0), padding[1]))


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
    turned = taps.reshape(groups, out // groups, inner, *kernel).swapaxes(1, 2)
    turned = turned.reshape(groups * inner, out // groups, *kernel)
    images = array_module(images).ascontiguousarray(images)
    dx = array_module(images).empty_like(images)

    def rows(windows, images, dx):
        with _columns(windows, groups) as columns:
            wide_product(_grouped(turned, groups), columns, _by_row(dx, groups))
            return long_product(columns, _by_row(images, groups))

    part = sum(_by_blocks(rows, windows, _turned(images), _turned(dx)))
    part = part.reshape(groups, kernel[0], out // groups, kernel[1], inner)
    return dx, part.transpose(0, 2, 4, 1, 3).reshape(out, inner, *kernel)


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
    """`by_rows`, in blocks of 2 MB of columns, half of it in memory for 3x3."""
    return by_rows(function, windows, *arrays, block=8 * BLOCK)


@contextmanager
def _columns(windows, groups):
    """(G, H', kh · C / G · kw, W' · B): the columns of each row of places.

    Where the windows of two rows overlap, what they see is copied once: a line of the
    image and its shifts, C / G · kw · W' · B, stands in the columns of several rows.
    """
    count, channels, high, wide, width, batch = windows.shape
    down, tap, lib = windows.strides[0], windows.strides[2], array_module(windows).lib
    step = down // max(tap, 1)
    if step < high and step * tap == down:
        shape = (count - 1) * step + high, 1, channels, wide, width, batch
        strides = tap, tap, windows.strides[1], *windows.strides[3:]
        seen = lib.stride_tricks.as_strided(windows, shape, strides)
    else:
        seen, step = windows.swapaxes(1, 2), high
    seen = seen.reshape(*seen.shape[:2], groups, channels // groups, *seen.shape[3:])
    seen = seen.transpose(2, 0, 1, 3, 4, 5, 6)
    places = width * batch
    with scratch(windows, (*seen.shape[:5], places + APART)) as lines:
        lines = lines[..., :places]
        lines.reshape(seen.shape)[...] = seen
        shape = groups, count, high * wide * channels // groups, places
        strides = lines.strides[0], step * lines.strides[2], *lines.strides[4:]
        yield lib.stride_tricks.as_strided(lines, shape, strides)


def _by_row(images, groups):
    """(G, rows, C / G, W · B) of images (rows, C, W, B), a view."""
    rows, channels, width, batch = images.shape
    places = width * batch
    return images.reshape(rows, groups, channels // groups, places).swapaxes(0, 1)


def _grouped(weight, groups):
    """(G, 1, O / G, kh · C / G · kw)."""
    weight = weight.reshape(groups, 1, len(weight) // groups, *weight.shape[1:])
    weight = weight.swapaxes(3, 4)
    return weight.reshape(*weight.shape[:3], math.prod(weight.shape[3:]))


def _ungrouped(weight, shape):
    """(O, C / G, kh, kw) of (G, O / G, kh · C / G · kw)."""
    out, inner, high, wide = shape
    return weight.reshape(out, high, inner, wide).swapaxes(1, 2)


def _turned(images):
    """Rows first, for `by_rows`, or back: (C, H, W, B) <-> (H, C, W, B)."""
    return images.swapaxes(0, 1)


def _like(gradient, parameter):
    return None if parameter is None else gradient.astype(parameter.dtype, copy=False)
