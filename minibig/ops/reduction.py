"""Sums, means and extremes along axes. `axis` is None (all), a number or a tuple."""

from ..backend import array_module, total, use_kernel
from ..kernels.columns import column_sums
from .elementwise import widen


def over_rows(x):
    """Σ over the rows of x (N, C): (C,). On a GPU by a kernel where one can."""
    served = column_sums(x) if use_kernel(x) else None
    return total(x, 0) if served is None else served


def _spread(dy, axis, keepdims):
    """`dy` with the reduced axes put back with length 1, ready to broadcast."""
    if axis is None or keepdims:
        return dy
    return array_module(dy).expand_dims(dy, axis)


def sum(x, *, axis=None, keepdims=False):
    """The sum along `axis`. backward: dy, repeated."""
    xp, shape = array_module(x), x.shape

    def backward(dy):
        return (xp.broadcast_to(_spread(dy, axis, keepdims), shape),)

    return total(x, axis, keepdims), backward


def mean(x, *, axis=None, keepdims=False):
    """The mean along `axis`. backward: dy / n, repeated."""
    xp, shape = array_module(x), x.shape
    y = total(widen(x), axis, keepdims)
    count = x.size / max(y.size, 1)
    y = (y / count).astype(x.dtype, copy=False)

    def backward(dy):
        return (xp.broadcast_to(_spread(dy / count, axis, keepdims), shape),)

    return y, backward


def variance(x, *, axis=None, keepdims=False, correction=1):
    """Mean squared distance from the mean, over n - correction (two passes).

    backward: dx = 2 dy (x - mean) / (n - correction).
    """
    centred = x - x.mean(axis, keepdims=True)
    y = (centred * centred).sum(axis, keepdims=keepdims)
    scale = x.size / max(y.size, 1) - correction
    y = y / scale

    def backward(dy):
        return (_spread(dy, axis, keepdims) * centred * (2 / scale),)

    return y, backward


def deviation(x, *, axis=None, keepdims=False, correction=1):
    """The root of the variance.

    backward: dx = dy (x - mean) / ((n - correction) y), 0 where all are equal (y = 0).
    """
    xp = array_module(x)
    squared, variance_backward = variance(
        x, axis=axis, keepdims=keepdims, correction=correction
    )
    y = xp.sqrt(squared)

    def backward(dy):
        return variance_backward(xp.where(y == 0, 0, dy / xp.where(y == 0, 1, 2 * y)))

    return y, backward


def amax(x, *, axis=None, keepdims=False):
    """The largest along `axis`. backward: dy, shared evenly among equal largest."""
    return _extreme(x, x.max(axis, keepdims=True), axis, keepdims)


def amin(x, *, axis=None, keepdims=False):
    """The smallest along `axis`. backward: dy, shared evenly among equal smallest."""
    return _extreme(x, x.min(axis, keepdims=True), axis, keepdims)


def _extreme(x, best, axis, keepdims):
    y = best if keepdims else best.squeeze(axis)

    def backward(dy):
        chosen = x == best
        count = chosen.sum(axis, keepdims=True).astype(dy.dtype)
        return (chosen * (_spread(dy, axis, keepdims) / count),)

    return y, backward


def product(x, *, axis=None, keepdims=False):
    """The product along `axis`.

    backward: dx_i = dy * (product of the others), from running products on both sides,
    so that zeros are no trouble.
    """
    xp = array_module(x)
    y = x.prod(axis, keepdims=keepdims)

    def backward(dy):
        flat = x.reshape(-1, 1) if axis is None else xp.moveaxis(x, axis, 0)
        ones = xp.ones_like(flat[:1])
        before = xp.cumprod(xp.concatenate([ones, flat[:-1]]), axis=0)
        after = xp.cumprod(xp.concatenate([ones, flat[:0:-1]]), axis=0)[::-1]
        others = before * after
        others = (
            others.reshape(x.shape) if axis is None else xp.moveaxis(others, 0, axis)
        )
        return (_spread(dy, axis, keepdims) * others,)

    return y, backward


def cumsum(x, *, axis):
    """Running sums along `axis`. backward: running sums of dy from the end."""
    xp = array_module(x)

    def backward(dy):
        return (xp.flip(run(xp.flip(dy, axis)), axis),)

    def run(x):
        """In float64: in float32 each of many sums would round on top of the last."""
        wide = "float64" if x.dtype.kind == "f" else x.dtype
        return xp.cumsum(x, axis, dtype=wide).astype(x.dtype, copy=False)

    return run(x), backward


def logsumexp(x, *, axis, keepdims=False):
    """log Σ e^x along `axis`, shifted by the largest so that nothing overflows.

    backward: dx = dy * softmax(x).
    """
    xp, wide = array_module(x), widen(x)
    top = wide.max(axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0)
    total = xp.exp(wide - top).sum(axis, keepdims=True)
    y = (xp.log(total) + top).astype(x.dtype, copy=False)

    def backward(dy):
        dx = _spread(dy, axis, keepdims) * (xp.exp(wide - top) / total)
        return (dx.astype(x.dtype, copy=False),)

    return y if keepdims else y.squeeze(axis), backward
