"""Picking by position: indexing, gathering, embedding rows."""

import numpy as np

from ..backend import array_module, use_kernel
from ..kernels import embedding as kernel


def getitem(x, *, index):
    """x[index]: slices, whole numbers, whole-number or boolean arrays, None, Ellipsis.

    backward: dy put back at the same places, added up where a place was picked twice.
    """
    xp, shape = array_module(x), x.shape
    parts = index if isinstance(index, tuple) else (index,)
    repeats = any(hasattr(part, "dtype") and part.dtype != bool for part in parts)

    def backward(dy):
        if repeats:
            places = xp.arange(x.size).reshape(shape)[index]
            return (add_at(places, dy, x.size).reshape(shape),)
        dx = xp.zeros(shape, dy.dtype)
        dx[index] = dy
        return (dx,)

    return x[index], backward


def gather(x, *, axis, index):
    """y[i][j] = x[i][index[i][j]] along `axis`, as torch.gather with equal other axes.

    backward: dy added up where it was taken from.
    """
    xp, shape = array_module(x, index), x.shape

    def backward(dy):
        cells = xp.arange(x.size).reshape(shape)
        places = xp.take_along_axis(cells, index, axis)
        return (add_at(places, dy, x.size).reshape(shape),)

    return xp.take_along_axis(x, index, axis), backward


def add_at(places, values, size):
    """An array of `size` zeros with `values` added at `places`, repeats and all."""
    xp, places = array_module(values), places.ravel()
    if xp is np:
        return np.bincount(places, values.ravel(), size).astype(values.dtype)
    rows = values.reshape(-1, 1)
    served = kernel.add_rows(places, rows, size) if use_kernel(values) else None
    if served is not None:
        return served.ravel()
    total = xp.zeros(size, values.dtype)
    xp.add.at(total, places, values.ravel())  # bincount waits for the largest place
    return total


def embedding(weight, *, ids):
    """Rows of `weight` (V, C) by `ids` of any shape: ids.shape + (C,).

    backward: each row's gradient is the sum of dy over the places where its id stands.
    """
    vocabulary = len(weight)

    def backward(dy):
        rows = dy.reshape(ids.size, dy.shape[-1])
        return (add_rows(ids.reshape(-1), rows, vocabulary),)

    return weight[ids], backward


def add_rows(ids, rows, count):
    """(count, C): row i is the sum of `rows` (N, C) whose id is i.

    A table of few rows is one product with a matrix of zeros and ones; a large one is
    sorted, and runs of equal ids are added up. (`table[ids] += rows` loses repeats.) On
    a GPU a kernel does that, in the same order each time.
    """
    served = kernel.add_rows(ids, rows, count) if use_kernel(rows) else None
    if served is not None:
        return served
    xp = array_module(rows)
    if count * len(ids) <= 1 << 18 or len(ids) == 0:
        chosen = (xp.arange(count)[:, None] == ids).astype(rows.dtype)  # (count, N)
        return chosen @ rows
    order = xp.argsort(ids, kind="stable")
    ordered = ids[order]
    if xp is not np:
        return _run_sums(xp, ordered, rows[order], count)
    table = xp.zeros((count, rows.shape[1]), rows.dtype)
    first = xp.flatnonzero(
        xp.concatenate([ordered[:1] >= 0, ordered[1:] != ordered[:-1]])
    )
    table[ordered[first]] = xp.add.reduceat(rows[order], first)
    return table


def _run_sums(xp, ids, rows, count):
    """Row i is the sum of the rows with id i, ids in order: for a GPU.

    As differences of running sums, in float64, so that no digits are lost (CuPy's
    `reduceat` does it in float32). How many ids occur need not be known, for which the
    CPU would wait.
    """
    running = xp.zeros((len(ids) + 1, rows.shape[1]), "float64")
    xp.cumsum(rows, 0, dtype="float64", out=running[1:])
    each = xp.arange(count, dtype=ids.dtype)
    begins, ends = (xp.searchsorted(ids, each, side) for side in ("left", "right"))
    return (running[ends] - running[begins]).astype(rows.dtype)
