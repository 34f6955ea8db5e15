"""Products of matrices. A batch times one weight matrix is a single product."""

import math

from ..backend import array_module
from ..backend import matmul as product
from ..backend import matmuls as products
from .reduction import over_rows


def _transposed(x):
    return x.swapaxes(-1, -2)


def _rows(x):
    """All axes but the last as one; sizes of 0 leave reshape's -1 undecided."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def matmul(a, b):
    """a @ b as NumPy: (..., N, K) @ (..., K, M) -> (..., N, M); vectors as 1-d arrays.

    backward: da = dy bᵀ, db = aᵀ dy.
    """
    if a.ndim == 1 or b.ndim == 1:
        return _with_vectors(a, b)
    if b.ndim == 2:
        rows = _rows(a)  # (B N, K): one product for the whole batch
        y = product(rows, b).reshape(*a.shape[:-1], b.shape[-1])

        def backward(dy):
            dy = _rows(dy)
            da, db = products((dy, b.T), (rows.T, dy))
            return da.reshape(a.shape), db

        return y, backward

    def backward(dy):
        return tuple(products((dy, _transposed(b)), (_transposed(a), dy)))

    return product(a, b), backward


def _with_vectors(a, b):
    y, whole = matmul(a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b)
    rows, full = y.shape, y
    if b.ndim == 1:
        y = y[..., 0]
    if a.ndim == 1:
        y = y[0] if b.ndim == 1 else y[..., 0, :]

    def backward(dy):
        da, db = whole(dy.reshape(rows).astype(full.dtype, copy=False))
        if b.ndim == 1:
            db = db.sum(tuple(range(db.ndim - 2)))
        if a.ndim == 1:
            da = da.sum(tuple(range(da.ndim - 2)))
        return da.reshape(a.shape), db.reshape(b.shape)

    return y, backward


def linear(x, weight, bias):
    """x Wᵀ + b: (..., in), (out, in), (out,) or None -> (..., out).

    backward: dx = dy W, dW = dyᵀ x, db = dy summed over rows; the batch is folded, so
    that each is one product.
    """
    rows = _rows(x)  # (N, in)
    y = product(rows, weight.T)
    if bias is not None:
        y += bias

    def backward(dy):
        dy = _rows(dy)
        db = None if bias is None else over_rows(dy)
        dx, dweight = products((dy, weight), (dy.T, rows))
        return dx.reshape(x.shape), dweight, db

    return y.reshape(*x.shape[:-1], len(weight)), backward


def einsum(*arrays, equation):
    """Sums of products by Einstein's rule; `equation` names all axes ("bik,bkj->bij").

    backward, for each operand: the same sum with dy in its place.
    """
    xp = array_module(*arrays)
    inputs, output = equation.split("->")
    inputs = inputs.split(",")
    sizes = {
        name: size
        for names, x in zip(inputs, arrays, strict=True)
        for name, size in zip(names, x.shape, strict=True)
    }
    # Finding the best order of the products takes 20 µs: more than small sums do.
    optimize = math.prod(sizes.values()) > 1 << 16

    def gradient(dy, i):
        others = [arrays[j] for j in range(len(arrays)) if j != i]
        names = [inputs[j] for j in range(len(arrays)) if j != i]
        known = set(output).union(*names)
        kept = "".join(c for c in inputs[i] if c in known)
        reverse = ",".join([output, *names]) + "->" + kept
        dx = xp.einsum(reverse, dy, *others, optimize=optimize)
        alone = [k for k, c in enumerate(inputs[i]) if c not in known]
        dx = xp.expand_dims(dx, alone) if alone else dx  # axes summed away unseen
        return xp.broadcast_to(dx, arrays[i].shape)

    def backward(dy):
        return tuple(gradient(dy, i) for i in range(len(arrays)))

    return xp.einsum(equation, *arrays, optimize=optimize), backward
