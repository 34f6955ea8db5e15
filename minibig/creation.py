"""New tensors: from data, filled, counted or drawn.

The drawn ones come from the stream "tensors" of `minibig.random`, on the CPU, so that
both devices get the same numbers.
"""

import operator

import numpy as np

from . import backend, checks
from .arguments import bounds_of, known_bounds
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


def _sizes(sizes):
    """As `shape_of`, and none of them negative."""
    sizes = shape_of(sizes)
    if min(sizes, default=0) < 0:
        raise ValueError(f"sizes are whole numbers of at least 0, not {sizes}")
    return sizes


def _place(array, dtype, device, requires_grad):
    array = array.astype(_dtype(dtype), copy=False)
    return _sent(array, _device(device), requires_grad)


def _sent(array, device, requires_grad=False):
    """A Tensor of an array of the CPU, on `device`."""
    out = Tensor(backend.to_device(array, device), requires_grad)
    if device != "cpu":
        out.version[2] = bounds_of(array)
    return out


def _dtype(dtype):
    return checks.dtype("float32" if dtype is None else dtype)


def _device(device):
    return backend.check_device(backend.default_device() if device is None else device)


def tensor(data, *, dtype=None, device=None, requires_grad=False):
    """A Tensor of a copy of `data`: a number, (nested) list, array or Tensor.

    Python floats become float32, whole numbers int64; arrays keep their dtype. `device`
    is "cpu" or "cuda", the default device if not given (arrays and Tensors stay where
    they are). Raises TypeError for what is no number, ValueError for ragged lists.
    """
    bounds = known_bounds(data)
    if isinstance(data, Tensor):
        data = data.array
    if not backend.is_array(data):
        data = _from_python(data, dtype)
    elif device is None:
        device = backend.device_of(data)
    if data.dtype.kind not in "fiub":
        raise TypeError(f"a tensor holds numbers; this is data of dtype {data.dtype}")
    dtype = data.dtype if dtype is None else checks.dtype(dtype)
    array = data.astype(dtype, order="C", copy=True)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    device = _device(device)
    if backend.device_of(array) == "cpu":
        return _sent(array, device, requires_grad)
    out = Tensor(backend.to_device(array, device), requires_grad)
    out.version[2] = bounds if device != "cpu" and dtype == data.dtype else None
    return out


def _from_python(data, dtype):
    """Numbers and lists as an array: of float32 unless a dtype is asked for."""
    try:
        array = np.array(data)
    except ValueError:
        raise ValueError("the lists are ragged: all rows need equal lengths") from None
    kept = dtype is not None or isinstance(data, np.generic) or _holds_arrays(data)
    return array if kept or array.dtype != np.float64 else array.astype(np.float32)


def _holds_arrays(data):
    """Whether nested lists end in arrays or tensors, which keep their own dtype."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.ndarray, np.generic, Tensor))


def zeros(*sizes, dtype="float32", device=None, requires_grad=False):
    """A tensor of zeros of the given sizes."""
    return _place(np.zeros(_sizes(sizes), _dtype(dtype)), dtype, device, requires_grad)


def ones(*sizes, dtype="float32", device=None, requires_grad=False):
    """A tensor of ones of the given sizes."""
    return _place(np.ones(_sizes(sizes), _dtype(dtype)), dtype, device, requires_grad)


def full(size, value, *, dtype=None, device=None, requires_grad=False):
    """A tensor of the given size (a tuple) filled with the number `value`."""
    given = tensor(value)  # refuses what is no number
    if dtype is None:
        dtype = "float32" if isinstance(value, float) else given.dtype
    value = value if isinstance(value, (int, float)) else given.item()
    return _place(np.full(_sizes((size,)), value), dtype, device, requires_grad)


def zeros_like(x):
    """Zeros with the shape, dtype and device of x."""
    checks.kind("zeros_like: input", x, Tensor)
    return Tensor(backend.array_module(x.array).zeros(x.shape, x.dtype))


def ones_like(x):
    """Ones with the shape, dtype and device of x."""
    checks.kind("ones_like: input", x, Tensor)
    return Tensor(backend.array_module(x.array).ones(x.shape, x.dtype))


def arange(*bounds, dtype=None, device=None):
    """Numbers from start (0) to stop, without it, by step (1), as Python's range."""
    if not 1 <= len(bounds) <= 3:
        raise TypeError(f"arange takes stop, or start, stop and step, not {bounds}")
    bounds = [checks.number("arange: a bound or step", n) for n in bounds]
    if len(bounds) == 3 and not bounds[2]:
        raise ValueError("arange: a step of 0 never reaches the stop")
    array = np.arange(*bounds)
    if dtype is None:
        dtype = "float32" if array.dtype.kind == "f" else "int64"
    return _place(array, dtype, device, False)


def linspace(start, end, steps, *, dtype="float32", device=None):
    """`steps` numbers from start to end, both included, at equal distances."""
    ends = [checks.number("linspace: an end", n) for n in (start, end)]
    array = np.linspace(*ends, checks.whole("linspace: steps", steps, 0))
    return _place(array, dtype, device, False)


def eye(n, *, dtype="float32", device=None):
    """The identity matrix of n rows."""
    return _place(np.eye(checks.whole("eye: n", n, 0)), dtype, device, False)


def randn(*sizes, dtype="float32", device=None, requires_grad=False):
    """Numbers from the normal distribution of mean 0 and variance 1."""
    sizes = _sizes(sizes)
    drawn = generator("tensors").standard_normal(sizes)
    return _place(drawn, dtype, device, requires_grad)


def rand(*sizes, dtype="float32", device=None, requires_grad=False):
    """Numbers spread evenly over [0, 1)."""
    sizes = _sizes(sizes)
    drawn = generator("tensors").random(sizes, np.float32)
    return _place(drawn, dtype, device, requires_grad)


def randint(low, high, size, *, device=None):
    """Whole numbers from low to high, without it, in a shape `size` (a tuple)."""
    low, high = checks.whole("randint: low", low), checks.whole("randint: high", high)
    if low >= high:
        raise ValueError(f"randint: low {low} must be below high {high}")
    sizes = _sizes((size,))
    drawn = generator("tensors").integers(low, high, sizes)
    return _place(drawn, np.int64, device, False)
