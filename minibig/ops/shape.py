"""The same numbers in another shape, order or company."""

import numpy as np

from ..backend import array_module, by_rows


def reshape(x, *, shape):
    """x in another shape with as many elements: a view where the layout allows."""
    before = x.shape
    return x.reshape(shape), lambda dy: (dy.reshape(before),)


def permute(x, *, axes):
    """x with its axes in another order, as a view."""
    back = tuple(int(i) for i in np.argsort(axes))
    return x.transpose(axes), lambda dy: (dy.transpose(back),)


def broadcast_to(x, *, shape):
    """x repeated to `shape` without copying. backward: the engine sums it back."""
    return array_module(x).broadcast_to(x, shape), lambda dy: (dy,)


def flip(x, *, axis):
    """x in reverse order along `axis`, as a view."""
    xp = array_module(x)
    return xp.flip(x, axis), lambda dy: (xp.flip(dy, axis),)


def concatenate(*arrays, axis=0):
    """The arrays one after the other along `axis`."""
    xp = array_module(*arrays)
    ends = np.cumsum([a.shape[axis] for a in arrays])[:-1].tolist()

    def backward(dy):
        return tuple(xp.split(dy, ends, axis))

    return xp.concatenate(arrays, axis), backward


def stack(*arrays, axis=0):
    """The arrays, equal in shape, along a new axis."""
    xp = array_module(*arrays)

    def backward(dy):
        return tuple(xp.moveaxis(dy, axis, 0)[i] for i in range(len(arrays)))

    return xp.stack(arrays, axis), backward


def split(x, *, sizes, axis=0):
    """Pieces of the given sizes along `axis`, as views. backward: put together."""
    xp = array_module(x)
    ends = np.cumsum(sizes)[:-1].tolist()

    def backward(*pieces):
        return (xp.concatenate(pieces, axis),)

    return tuple(xp.split(x, ends, axis)), backward


def unbind(x, *, axis=0):
    """All slices along `axis`, as views, that axis removed. backward: stacked."""
    xp = array_module(x)

    def backward(*pieces):
        dx = xp.empty_like(x)
        parts = xp.moveaxis(dx, axis, 0)
        for i, piece in enumerate(pieces):
            by_rows(_put, parts[i, ...], piece)
        return (dx,)

    return tuple(xp.moveaxis(x, axis, 0)[i] for i in range(x.shape[axis])), backward


def _put(place, array):
    place[...] = array


def tril(x, *, diagonal=0):
    """x with zeros above the diagonal of its last two axes."""
    xp = array_module(x)
    return xp.tril(x, diagonal), lambda dy: (xp.tril(dy, diagonal),)


def triu(x, *, diagonal=0):
    """x with zeros below the diagonal of its last two axes."""
    xp = array_module(x)
    return xp.triu(x, diagonal), lambda dy: (xp.triu(dy, diagonal),)
