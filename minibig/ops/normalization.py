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
        x.mean(-1, keepdims=True, out=mean)
        centred = x - mean
        scale[...] = _mean_of_products(xp, centred, centred)
        scale += eps
        xp.divide(1, xp.sqrt(scale), out=scale)
        centred *= scale
        _affine(xp, centred, weight, bias, y)

    by_rows(forward_rows, rows, mean, scale, y)

    def backward_rows(x, mean, scale, dy, dx):
        normal = x - mean
        normal *= scale
        dweight, dbias = xp.einsum("nc,nc->c", dy, normal), dy.sum(0)
        g = dy * (1 if weight is None else weight)
        inner = _mean_of_products(xp, g, normal)
        normal *= inner
        normal += g.mean(-1, keepdims=True)
        g = g - normal
        xp.multiply(g, scale, out=dx)
        return dweight, dbias

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
        scale[...] = _mean_of_products(xp, x, x)
        scale += eps
        xp.divide(1, xp.sqrt(scale), out=scale)
        _affine(xp, x * scale, weight, None, y)

    by_rows(forward_rows, rows, scale, y)

    def backward_rows(x, scale, dy, dx):
        normal = x * scale
        dweight = xp.einsum("nc,nc->c", dy, normal)
        g = dy * (1 if weight is None else weight)
        normal *= _mean_of_products(xp, g, normal)
        xp.multiply(g - normal, scale, out=dx)
        return dweight

    def backward(dy):
        dx = xp.empty_like(rows)
        parts = by_rows(backward_rows, rows, scale, dy.reshape(rows.shape), dx)
        dweight = None if weight is None else _total(parts)
        return dx.reshape(x.shape), _as(dweight, weight)

    return y.reshape(x.shape), backward


def _mean_of_products(xp, a, b):
    """mean(a * b) of each row, (N, 1), without the array of products."""
    return (xp.einsum("nc,nc->n", a, b) / a.shape[-1])[:, None]


def _affine(xp, normal, weight, bias, y):
    if weight is not None:
        normal *= weight
    if bias is not None:
        normal += bias
    y[...] = normal


def _total(parts):
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total += part
    return total


def _as(gradient, parameter):
    return None if gradient is None else gradient.astype(parameter.dtype, copy=False)
