"""Batch norm: each channel with mean 0 and variance 1 over the batch and the places.

Channels lie as rows in memory, (C, places · B), and are shared among the threads.
"""

from ..backend import array_module, by_rows
from .elementwise import widen
from .scratch import scratch


def statistics(x):
    """(mean, variance) of each channel of x (B, C, …), in two passes: (C,) each."""
    xp, rows = array_module(x), channel_rows(x)
    mean, variance = xp.empty((2, len(rows)), rows.dtype)

    def serve(rows, mean, variance):
        mean[...] = rows.sum(1)
        mean /= rows.shape[1]
        with scratch(rows, rows.shape) as centred:
            xp.subtract(rows, mean[:, None], out=centred)
            variance[...] = xp.einsum("cn,cn->c", centred, centred)
        variance /= rows.shape[1]

    by_rows(serve, rows, mean, variance)
    return mean, variance


def batch_norm(x, weight, bias, *, mean, variance, eps=1e-5, training=False):
    """(x - mean) / √(variance + eps) · weight + bias; x (B, C, …), the others (C,).

    Ioffe and Szegedy, arXiv 1502.03167. backward: with g = dy · weight and x̂ the
    normalised x, dx = (g - mean(g) - x̂ mean(g x̂)) / √(variance + eps) if `training`,
    where mean and variance are those of x; else g / √(variance + eps).
    """
    xp, rows = array_module(x, weight, bias), channel_rows(x)  # (C, N)
    scale = 1 / xp.sqrt(variance + eps)
    gain = scale if weight is None else scale * weight
    y = xp.empty_like(rows)

    shift = xp.zeros_like(mean) if bias is None else bias

    def forward_rows(rows, y, mean, gain, shift):
        xp.subtract(rows, mean[:, None], out=y)
        y *= gain[:, None]
        y += shift[:, None]

    by_rows(forward_rows, rows, y, mean, gain, shift)

    def backward_rows(rows, dy, dx, mean, scale, gain, dweight, dbias):
        dbias[...] = dy.sum(1)
        with scratch(rows, rows.shape) as t:
            xp.subtract(rows, mean[:, None], out=t)
            dweight[...] = xp.einsum("cn,cn->c", dy, t)
            dweight *= scale
            if training:
                t *= (dweight * scale / rows.shape[1])[:, None]
                t += (dbias / rows.shape[1])[:, None]
                xp.subtract(dy, t, out=t)
                dy = t
        xp.multiply(dy, gain[:, None], out=dx)

    def backward(dy):
        dy, dx = channel_rows(dy), xp.empty_like(rows)
        dweight, dbias = xp.empty((2, len(rows)), rows.dtype)
        by_rows(backward_rows, rows, dy, dx, mean, scale, gain, dweight, dbias)
        dx = _back(dx, x.shape).astype(x.dtype, copy=False)
        return dx, _like(dweight, weight), _like(dbias, bias)

    return _back(y, x.shape).astype(x.dtype, copy=False), backward


def channel_rows(x):
    """(B, C, …) -> (C, places · B), contiguous: a view where the memory lies so."""
    turned = widen(x).transpose(*range(1, x.ndim), 0)
    rows = array_module(x).ascontiguousarray(turned)
    return rows.reshape(len(rows), rows.size // max(len(rows), 1))


def _back(rows, shape):
    """(C, places · B) -> (B, C, …), a view."""
    batch, channels, *places = shape
    turned = rows.reshape(channels, *places, batch)
    return turned.transpose(turned.ndim - 1, *range(turned.ndim - 1))


def _like(gradient, parameter):
    return None if parameter is None else gradient.astype(parameter.dtype, copy=False)
