"""Softmax and its logarithm, shifted by the largest score so that nothing overflows.

float16 scores are computed in float32. On a GPU a kernel does each pass.
"""

from ..backend import array_module, by_rows, row_dot, row_max, row_sum, use_kernel
from ..kernels import softmax as kernel
from .elementwise import widen


def softmax(x, *, axis=-1):
    """Exponentials scaled to sum to 1 along `axis`; same shape as x.

    backward: dx = y (dy - Σ dy y), the Jacobian diag(y) - y yᵀ applied to dy.
    """
    served = _softmax_by_kernel(x, axis=axis)
    if served:
        return served
    xp = array_module(x)
    if axis not in (-1, x.ndim - 1) or x.ndim < 2:
        return _softmax_along(x, axis)
    y = xp.empty_like(x)

    def forward_rows(x, y):
        x = widen(x)
        e = xp.exp(x - row_max(x))
        xp.divide(e, row_sum(e), out=y)

    by_rows(forward_rows, x, y)

    def backward_rows(y, dy, dx):
        xp.multiply(y, dy - row_dot(y, dy), out=dx)

    def backward(dy):
        dx = xp.empty_like(y)
        by_rows(backward_rows, y, dy, dx)
        return (dx,)

    return y, backward


def _softmax_by_kernel(x, *, axis=-1):
    return use_kernel(x) and kernel.softmax(x, axis=axis)


softmax.in_bfloat16 = _softmax_by_kernel


def _softmax_along(x, axis):
    wide = widen(x)
    y = array_module(x).exp(wide - wide.max(axis, keepdims=True))
    y /= y.sum(axis, keepdims=True)

    def backward(dy):
        dx = y * (dy - (dy * y).sum(axis, keepdims=True))
        return (dx.astype(x.dtype, copy=False),)

    return y.astype(x.dtype, copy=False), backward


def log_softmax(x, *, axis=-1):
    """log softmax(x) = x - log Σ e^x along `axis`; same shape as x.

    backward: dx = dy - softmax(x) Σ dy.
    """
    served = _log_softmax_by_kernel(x, axis=axis)
    if served:
        return served
    xp, wide = array_module(x), widen(x)
    y = wide - wide.max(axis, keepdims=True)
    y -= xp.log(xp.exp(y).sum(axis, keepdims=True))

    def backward(dy):
        dx = dy - xp.exp(y) * dy.sum(axis, keepdims=True)
        return (dx.astype(x.dtype, copy=False),)

    return y.astype(x.dtype, copy=False), backward


def _log_softmax_by_kernel(x, *, axis=-1):
    return use_kernel(x) and kernel.log_softmax(x, axis=axis)


log_softmax.in_bfloat16 = _log_softmax_by_kernel
