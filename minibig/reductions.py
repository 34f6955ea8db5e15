"""Sums, means, extremes and searches along axes, as functions and methods of Tensors.

`dim` is None (all axes), a number or a tuple; negative numbers count from the end.
"""

import math
from typing import NamedTuple

import numpy as np

from . import backend
from .checks import number, switch, whole
from .ops import indexing, reduction
from .tensor import Tensor, apply


class MaxResult(NamedTuple):
    """What `max(dim)` and `min(dim)` return."""

    values: Tensor
    indices: Tensor


def checked_dim(dim, ndim, name, alone=False):
    """`dim` counted from the front; IndexError where the tensor has no such axis.

    `alone`: it must be one axis, not None and not several.
    """
    if isinstance(dim, (tuple, list)) and not alone:
        dims = tuple(checked_dim(d, ndim, name, alone=True) for d in dim)
        if len(set(dims)) < len(dims):
            raise ValueError(f"{name}: dim {tuple(dim)} names an axis twice")
        return dims
    if dim is None and not alone:
        return None
    dim = whole(f"{name}: dim" + " (or each of a tuple)" * (not alone), dim)
    if -ndim <= dim < ndim:
        return dim % ndim
    raise IndexError(
        f"{name}: dim {dim} is out of range for a tensor of {ndim} dimensions"
        + (f" (-{ndim} … {ndim - 1})" if ndim else "")
    )


def _checked(x, dim, keepdim, name, alone=False):
    """`dim` counted from the front; None, if it may be several axes, stays None."""
    switch(f"{name}: keepdim (several axes are a tuple, dim=(0, 1))", keepdim)
    return checked_dim(dim, x.ndim, name, alone)


def _reduce(op, x, dim, keepdim, **settings):
    axis = _checked(x, dim, keepdim, op.__name__)
    if op not in (reduction.sum, reduction.product):
        _need(1, op.__name__, x, axis)
    return apply(op, x, axis=axis, keepdims=keepdim, **settings)


def _need(least, name, x, axis):
    """Raises ValueError unless at least that many numbers lie along `axis`."""
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis)
    count = math.prod(x.shape[i] for i in axes)
    if count < least:
        few = f"of {count} numbers, but it needs {least}" if count else "of no elements"
        raise ValueError(f"{name} {few}: shape {x.shape}, dim {axis}")


def _float(x, name):
    if not x.is_floating_point():
        raise TypeError(
            f"{name} needs floating-point numbers, not {x.dtype}: use .float()"
        )
    return x


def sum(x, dim=None, keepdim=False):
    """The sum along `dim`; whole numbers and booleans add up to int64."""
    x = x.to("int64") if x.dtype.kind == "b" else x
    return _reduce(reduction.sum, x, dim, keepdim)


def mean(x, dim=None, keepdim=False):
    """The mean along `dim`."""
    return _reduce(reduction.mean, _float(x, "mean"), dim, keepdim)


def var(x, dim=None, keepdim=False, correction=1):
    """The variance along `dim`: Σ (x - mean)² / (n - correction)."""
    return _spread_of(reduction.variance, "var", x, dim, keepdim, correction)


def std(x, dim=None, keepdim=False, correction=1):
    """The standard deviation along `dim`: the root of `var`."""
    return _spread_of(reduction.deviation, "std", x, dim, keepdim, correction)


def _spread_of(op, name, x, dim, keepdim, correction):
    axis = _checked(x, dim, keepdim, name)
    correction = number(f"{name}: correction", correction)
    _need(correction + 1, name, _float(x, name), axis)
    return apply(op, x, axis=axis, keepdims=keepdim, correction=correction)


def prod(x, dim=None, keepdim=False):
    """The product along `dim`, a number or None."""
    axis = None if dim is None else checked_dim(dim, x.ndim, "prod", alone=True)
    return _reduce(reduction.product, x, axis, keepdim)


def amax(x, dim=None, keepdim=False):
    """The largest along `dim`; equal ones share the gradient."""
    return _reduce(reduction.amax, x, dim, keepdim)


def amin(x, dim=None, keepdim=False):
    """The smallest along `dim`; equal ones share the gradient."""
    return _reduce(reduction.amin, x, dim, keepdim)


def max(x, dim=None, keepdim=False):
    """The largest of all, or with `dim` the largest along it and where they stand.

    (values, indices) with `dim`; among equal ones the first counts.
    """
    return amax(x) if dim is None else _best(x, argmax(x, dim, True), dim, keepdim)


def min(x, dim=None, keepdim=False):
    """The smallest of all, or with `dim` the smallest along it and where."""
    return amin(x) if dim is None else _best(x, argmin(x, dim, True), dim, keepdim)


def _best(x, indices, dim, keepdim):
    axis = checked_dim(dim, x.ndim, "max or min", alone=True)
    values = apply(indexing.gather, x, axis=axis, index=indices.array)
    if switch("max or min: keepdim", keepdim):
        return MaxResult(values, indices)
    return MaxResult(values.squeeze(axis), Tensor(indices.array.squeeze(axis)))


def argmax(x, dim=None, keepdim=False):
    """Where the largest stands: its index along `dim`, or in the flattened tensor."""
    return _search("argmax", x, dim, keepdim)


def argmin(x, dim=None, keepdim=False):
    """Where the smallest stands: its index along `dim`, or in the flattened tensor."""
    return _search("argmin", x, dim, keepdim)


def _search(name, x, dim, keepdim):
    axis = _checked(x, dim, keepdim, name, alone=dim is not None)
    _need(1, name, x, axis)
    return _plain(getattr(backend.array_module(x.array), name), x, axis, keepdim)


def _plain(function, x, axis, keepdim):
    result = function(x.array, axis, keepdims=keepdim)
    return Tensor(result if backend.is_array(result) else np.asarray(result))


def any(x, dim=None, keepdim=False):
    """Whether any element along `dim` is true."""
    axis = _checked(x, dim, keepdim, "any")
    return _plain(backend.array_module(x.array).any, x, axis, keepdim)


def all(x, dim=None, keepdim=False):
    """Whether all elements along `dim` are true."""
    axis = _checked(x, dim, keepdim, "all")
    return _plain(backend.array_module(x.array).all, x, axis, keepdim)


def cumsum(x, dim):
    """Running sums along `dim`."""
    return apply(
        reduction.cumsum, x, axis=checked_dim(dim, x.ndim, "cumsum", alone=True)
    )


def logsumexp(x, dim, keepdim=False):
    """log Σ e^x along `dim`, without overflow."""
    return _reduce(reduction.logsumexp, _float(x, "logsumexp"), dim, keepdim)


for _function in (
    sum, mean, var, std, prod, amax, amin, max, min, argmax, argmin, any, all, cumsum,
    logsumexp,
):  # fmt: skip
    setattr(Tensor, _function.__name__, _function)
