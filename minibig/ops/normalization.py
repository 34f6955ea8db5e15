"""Layer norm and RMS norm over the last axis, with their scale and shift.

Statistics are computed in two passes (mean, then mean square of what is left), at least
in float32. Backward computes the normalised rows again from two numbers a row. On a GPU
kernels do both passes.
"""

from ..backend import array_module, by_rows, row_dot, row_sum, use_kernel
from ..kernels import norm as kernel
from .elementwise import widen


def layer_norm(x, weight, bias, *, eps=1e-5):
    """(x - mean) / √(variance + eps) * weight + bias; (..., C), weight and bias (C,).

    Ba et al., arXiv 1607.06450. backward: with g = dy * weight, x̂ the normalised row,
    dx = (g - mean(g) - x̂ mean(g x̂)) / √(variance + eps).
    """
    served = _layer_norm_by_kernel(x, weight, bias, eps=eps)
    if served:
        return served
    xp = array_module(x)
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    wide = widen(rows[:0]).dtype
    y = xp.empty_like(rows, dtype=wide)
    mean = xp.empty((len(rows), 1), wide)
    scale = xp.empty_like(mean)  # 1 / √(variance + eps)

    def forward_rows(x, mean, scale, y):
        x = widen(x)
        xp.divide(row_sum(x), x.shape[-1], out=mean)
        xp.subtract(x, mean, out=y)
        _normalise(xp, y, scale, weight, eps, y)
        if bias is not None:
            y += bias

    by_rows(forward_rows, rows, mean, scale, y)

    def backward_rows(x, mean, scale, dy, dx):
        return _norm_backward(xp, x - mean, scale, dy, dx, weight, centre=True)

    def backward(dy):
        dy = dy.reshape(rows.shape)
        dx = xp.empty_like(rows, dtype=wide)
        parts = by_rows(backward_rows, rows, mean, scale, dy, dx)
        dweight = None if weight is None else _total(part[0] for part in parts)
        dbias = None if bias is None else _total(part[1] for part in parts)
        return _as(dx.reshape(x.shape), x), _as(dweight, weight), _as(dbias, bias)

    return _as(y.reshape(x.shape), x), backward


def rms_norm(x, weight, *, eps=1e-6):
    """x / √(mean(x²) + eps) * weight; (..., C), weight (C,) or None.

    Zhang and Sennrich, arXiv 1910.07467. backward: with g = dy * weight and x̂ the
    normalised row, dx = (g - x̂ mean(g x̂)) / √(mean(x²) + eps).
    """
    served = _rms_norm_by_kernel(x, weight, eps=eps)
    if served:
        return served
    xp = array_module(x)
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    wide = widen(rows[:0]).dtype
    y = xp.empty_like(rows, dtype=wide)
    scale = xp.empty((len(rows), 1), wide)

    def forward_rows(x, scale, y):
        _normalise(xp, widen(x), scale, weight, eps, y)

    by_rows(forward_rows, rows, scale, y)

    def backward_rows(x, scale, dy, dx):
        return _norm_backward(xp, widen(x), scale, dy, dx, weight, centre=False)

    def backward(dy):
        dx = xp.empty_like(rows, dtype=wide)
        parts = by_rows(backward_rows, rows, scale, dy.reshape(rows.shape), dx)
        dweight = None if weight is None else _total(part[0] for part in parts)
        return _as(dx.reshape(x.shape), x), _as(dweight, weight)

    return _as(y.reshape(x.shape), x), backward


def _layer_norm_by_kernel(x, weight, bias, *, eps=1e-5):
    return use_kernel(x) and kernel.layer_norm(x, weight, bias, eps=eps)


def _rms_norm_by_kernel(x, weight, *, eps=1e-6):
    return use_kernel(x) and kernel.rms_norm(x, weight, eps=eps)


layer_norm.in_bfloat16 = _layer_norm_by_kernel
rms_norm.in_bfloat16 = _rms_norm_by_kernel


def _normalise(xp, x, scale, weight, eps, y):
    """Fills `scale` with 1 / √(mean(x²) + eps) and y with x * scale * weight."""
    xp.divide(1, xp.sqrt(row_dot(x, x) / x.shape[-1] + eps), out=scale)
    xp.multiply(x, scale, out=y)
    if weight is not None:
        y *= weight


def _norm_backward(xp, x, scale, dy, dx, weight, centre):
    """Fills dx from x, centred for a layer norm, and `scale`, with which it is x̂;
    returns (dweight, dbias) of these rows.

    Every sum is a product with a vector: those of dy * x over rows, times `scale`, are
    dweight, over columns with `weight` they are C mean(g x); those of dy are dbias and
    C mean(g).
    """
    width, dtype = x.shape[-1], x.dtype
    dy = widen(dy)
    gain = xp.ones(width, dtype) if weight is None else weight.astype(dtype, copy=False)
    xp.multiply(dy, x, out=dx)
    dweight = scale[:, 0] @ dx
    dbias = xp.ones(len(dy), dtype) @ dy if centre else None
    mean = (dx @ gain / width)[:, None]
    xp.multiply(dy, gain, out=dx)
    dx -= x * (mean * scale * scale)
    if centre:
        dx -= (dy @ gain / width)[:, None]
    dx *= scale
    return dweight, dbias


def _total(parts):
    parts = iter(parts)
    total = next(parts)
    for part in parts:
        total += part
    return total


def _as(gradient, parameter):
    return None if gradient is None else gradient.astype(parameter.dtype, copy=False)
