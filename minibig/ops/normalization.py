"""Layer norm and RMS norm over the last axis, with their scale and shift.

Statistics are computed in two passes (mean, then mean square of what is left), at least
in float32. Backward computes the normalised rows again from two numbers a row.
"""

from ..backend import array_module, by_rows
from .elementwise import widen


def layer_norm(x, weight, bias, *, eps=1e-5):
    """(x - mean) / √(variance + eps) * weight + bias; (..., C), weight and bias (C,).

    Ba et al., arXiv 1607.06450. backward: with g = dy * weight, x̂ the normalised row,
    dx = (g - mean(g) - x̂ mean(g x̂)) / √(variance + eps).
    """
    xp = array_module(x)
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    y = xp.empty_like(rows)
    mean = xp.empty((len(rows), 1), widen(x[:0]).dtype)
    scale = xp.empty_like(mean)  # 1 / √(variance + eps)

    def forward_rows(x, mean, scale, y):
        x = widen(x)
        xp.divide(x.sum(-1, keepdims=True), x.shape[-1], out=mean)
        centred = x - mean
        xp.divide(1, xp.sqrt(_mean_square(xp, centred) + eps), out=scale)
        centred *= scale
        _affine(centred, weight, bias, y)

    by_rows(forward_rows, rows, mean, scale, y)

    def backward_rows(x, mean, scale, dy, dx):
        normal = x - mean
        normal *= scale
        return _norm_backward(xp, normal, scale, dy, dx, weight, centre=True)

    def backward(dy):
        dy = dy.reshape(rows.shape)
        dx = xp.empty_like(rows)
        parts = by_rows(backward_rows, rows, mean, scale, dy, dx)
        dweight = None if weight is None else _total(part[0] for part in parts)
        dbias = None if bias is None else _total(part[1] for part in parts)
        return dx.reshape(x.shape), _as(dweight, weight), _as(dbias, bias)

    return y.reshape(x.shape), backward


def rms_norm(x, weight, *, eps=1e-6):
    """x / √(mean(x²) + eps) * weight; (..., C), weight (C,) or None.

    Zhang and Sennrich, arXiv 1910.07467. backward: with g = dy * weight and x̂ the
    normalised row, dx = (g - x̂ mean(g x̂)) / √(mean(x²) + eps).
    """
    xp = array_module(x)
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    y = xp.empty_like(rows)
    scale = xp.empty((len(rows), 1), widen(x[:0]).dtype)

    def forward_rows(x, scale, y):
        x = widen(x)
        xp.divide(1, xp.sqrt(_mean_square(xp, x) + eps), out=scale)
        _affine(x * scale, weight, None, y)

    by_rows(forward_rows, rows, scale, y)

    def backward_rows(x, scale, dy, dx):
        return _norm_backward(xp, x * scale, scale, dy, dx, weight, centre=False)

    def backward(dy):
        dx = xp.empty_like(rows)
        parts = by_rows(backward_rows, rows, scale, dy.reshape(rows.shape), dx)
        dweight = None if weight is None else _total(part[0] for part in parts)
        return dx.reshape(x.shape), _as(dweight, weight)

    return y.reshape(x.shape), backward


def _mean_square(xp, x):
    """mean(x²) of each row, (N, 1), without the array of squares."""
    return (xp.einsum("nc,nc->n", x, x) / x.shape[-1])[:, None]


def _affine(normal, weight, bias, y):
    if weight is not None:
        normal *= weight
    if bias is not None:
        normal += bias
    y[...] = normal


def _norm_backward(xp, normal, scale, dy, dx, weight, centre):
    """Fills dx from x̂ and 1/deviation; returns (dweight, dbias) of these rows.

    Every sum is a product with a vector: those of dy * x̂ over rows are dweight, over
    columns with `weight` they are C mean(g x̂); those of dy are dbias and C mean(g).
    """
    width, dtype = normal.shape[-1], normal.dtype
    dy = widen(dy)
    gain = xp.ones(width, dtype) if weight is None else weight.astype(dtype, copy=False)
    ones = xp.ones(len(dy), dtype)
    product = dy * normal
    dweight, dbias = ones @ product, ones @ dy if centre else None
    normal *= (product @ gain / width)[:, None]
    xp.multiply(dy, gain, out=product)
    product -= normal
    if centre:
        product -= (dy @ gain / width)[:, None]
    xp.multiply(product, scale, out=dx)
    return dweight, dbias


def _total(parts):
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total += part
    return total


def _as(gradient, parameter):
    return None if gradient is None else gradient.astype(parameter.dtype, copy=False)
