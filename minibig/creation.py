"""New tensors: from data, filled, counted or drawn.

The drawn ones come from the stream "tensors" of `minibig.random`, on the CPU, so that
both devices get the same numbers.
"""

import operator

import numpy as np

from . import backend
from .random import generator
from .tensor import Tensor


def shape_of(sizes):
    """The shape meant by f(2, 3) or f((2, 3)); TypeError unless of whole numbers."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    try:
        return tuple(operator.index(n) for n in sizes)
    except TypeError:
        raise TypeError(f"sizes are whole numbers, not {sizes}") from None


def _place(array, dtype, device, requires_grad):
    device = backend.check_device(device or backend.default_device())
    array = backend.to_device(array.astype(dtype, copy=False), device)
    return Tensor(array, requires_grad)


def tensor(data, *, dtype=None, device=None, requires_grad=False):
    """A Tensor of a copy of `data`: a number, (nested) list, array or Tensor.

    Python floats become float32, whole numbers int64; arrays keep their dtype. `device`
    is "cpu" or "cuda", the default device if not given (arrays and Tensors stay where
    they are). Raises TypeError for what is no number, ValueError for ragged lists.
    """
    if isinstance(data, Tensor):
        data = data.array
    if backend.is_array(data):
        device, array = device or backend.device_of(data), data.copy()
    else:
        device, array = device or backend.default_device(), _from_python(data)
    _check_numbers(array.dtype)
    array = backend.to_device(array, backend.check_device(device))
    if dtype is not None:
        _check_numbers(np.dtype(dtype))
        array = array.astype(dtype, copy=False)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return Tensor(array, requires_grad)


def _check_numbers(dtype):
    if dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds numbers; this is data of dtype {dtype}")


def _from_python(data):
    try:
        array = np.array(data)
    except ValueError:
        raise ValueError("the lists are ragged: all rows need equal lengths") from None
    single = isinstance(data, np.generic) or _holds_arrays(data)
    return array if single or array.dtype != np.float64 else array.astype(np.float32)


def _holds_arrays(data):
    """Whether nested lists end in arrays or tensors, which keep their own dtype."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic, Tensor))


def zeros(*sizes, dtype="float32", device=None, requires_grad=False):
    """A tensor of zeros of the given sizes."""
    return _place(np.zeros(shape_of(sizes), dtype), dtype, device, requires_grad)


def ones(*sizes, dtype="float32", device=None, requires_grad=False):
    """A tensor of ones of the given sizes."""
    return _place(np.ones(shape_of(sizes), dtype), dtype, device, requires_grad)


def full(size, value, *, dtype=None, device=None, requires_grad=False):
    """A tensor of the given size (a tuple) filled with `value`."""
    dtype = dtype or ("float32" if isinstance(value, float) else tensor(value).dtype)
    return _place(np.full(size, value), dtype, device, requires_grad)


def zeros_like(x):
    """Zeros with the shape, dtype and device of x."""
    return Tensor(backend.array_module(x.array).zeros(x.shape, x.dtype))


def ones_like(x):
    """Ones with the shape, dtype and device of x."""
    return Tensor(backend.array_module(x.array).ones(x.shape, x.dtype))


def arange(*bounds, dtype=None, device=None):
    """Numbers from start (0) to stop, without it, by step (1), as Python's range."""
    array = np.arange(*bounds)
    return _place(array, dtype or _ours(array), device, False)


def linspace(start, end, steps, *, dtype="float32", device=None):
    """`steps` numbers from start to end, both included, at equal distances."""
    return _place(np.linspace(start, end, steps), dtype, device, False)


def eye(n, *, dtype="float32", device=None):
    """The identity matrix of n rows."""
    return _place(np.eye(n), dtype, device, False)


def randn(*sizes, dtype="float32", device=None, requires_grad=False):
    """Numbers from the normal distribution of mean 0 and variance 1."""
    drawn = generator("tensors").standard_normal(shape_of(sizes))
    return _place(drawn, dtype, device, requires_grad)


def rand(*sizes, dtype="float32", device=None, requires_grad=False):
    """Numbers spread evenly over [0, 1)."""
    drawn = generator("tensors").random(shape_of(sizes), np.float32)
    return _place(drawn, dtype, device, requires_grad)


def randint(low, high, size, *, device=None):
    """Whole numbers from low to high, without it, in a shape `size`."""
    drawn = generator("tensors").integers(low, high, size)
    return _place(drawn, np.int64, device, False)


def _ours(array):
    return np.float32 if array.dtype.kind == "f" else np.int64
