"""A stand-in for the CuPy module that needs no GPU and refuses what CuPy refuses.

Its arrays hide a NumPy array where NumPy cannot see it: nothing is converted, no NumPy
array mixes with them, reductions give 0-d arrays. The module offers only functions that
CuPy 14 has, with CuPy's parameters. Where CuPy goes wrong silently it is stricter:
writing to one place twice (an index with repeats, a broadcast view) raises. Index
arrays that reach out of bounds wrap around, as on a GPU. `watched` tells what would
make the CPU wait for the GPU, and what would take one of CuPy's slow paths.
"""

import types
from contextlib import contextmanager

import numpy as np

_watches = []


@contextmanager
def watched():
    """Within it, what happens is noted: `.waits`, what makes the CPU wait for the GPU,
    and `.slow`, what CuPy does by a slow path."""
    watch = types.SimpleNamespace(waits=[], slow=[])
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)


def waits(what):
    """Notes that `what` makes the CPU wait until the GPU has done all before."""
    for watch in _watches:
        watch.waits.append(what)


def is_slow(what):
    """Notes that CuPy does `what` by a slow path."""
    for watch in _watches:
        watch.slow.append(what)


SCALARS = (bool, int, float, np.bool_, np.number)

WAITING = {"bincount", "flatnonzero", "nonzero", "tolist"}  # CuPy waits inside them

METHODS = {
    "all": "axis out! keepdims",
    "any": "axis out! keepdims",
    "argmax": "axis out! keepdims",
    "argmin": "axis out! keepdims",
    "argsort": "axis kind",
    "clip": "min? max? out!",
    "copy": "order",
    "cumprod": "axis dtype out!",
    "cumsum": "axis dtype out!",
    "diagonal": "offset axis1 axis2",
    "flatten": "order",
    "max": "axis out! keepdims",
    "mean": "axis dtype out! keepdims",
    "min": "axis out! keepdims",
    "nonzero": "",
    "prod": "axis dtype out! keepdims",
    "ravel": "order",
    "repeat": "repeats axis",
    "squeeze": "axis",
    "std": "axis dtype out! ddof keepdims",
    "sum": "axis dtype out! keepdims",
    "take": "indices! axis out!",
    "tolist": "",
    "trace": "offset axis1 axis2 dtype out!",
    "var": "axis dtype out! ddof keepdims",
    "view": "",
}


class ndarray:
    """An array that only this module's functions can read."""

    __slots__ = ("__weakref__", "_hidden", "base")
    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, *args, **kwargs):
        raise TypeError("the stand-in makes arrays with asarray, zeros, …")

    def __array__(self, *args, **kwargs):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` "
            "to construct a NumPy array explicitly."
        )

    def __array_function__(self, function, types, args, kwargs):
        if function in (np.shape, np.ndim):  # CuPy has these, and they read no numbers
            return getattr(args[0], function.__name__)
        raise TypeError(f"a NumPy function, {function.__name__}, was given CuPy arrays")

    shape = property(lambda self: self._hidden.shape)
    dtype = property(lambda self: self._hidden.dtype)
    ndim = property(lambda self: self._hidden.ndim)
    size = property(lambda self: self._hidden.size)
    strides = property(lambda self: self._hidden.strides)
    nbytes = property(lambda self: self._hidden.nbytes)
    itemsize = property(lambda self: self._hidden.itemsize)

    @property
    def T(self):
        return self if self.ndim < 2 else wrap(self._hidden.T, self)

    @property
    def data(self):
        """CuPy's has the address as its `ptr`."""
        return types.SimpleNamespace(ptr=self._hidden.ctypes.data)

    @property
    def flags(self):
        """CuPy's have no `writeable`."""
        held = self._hidden.flags
        return types.SimpleNamespace(
            c_contiguous=held.c_contiguous,
            f_contiguous=held.f_contiguous,
            owndata=self.base is None,
        )

    def get(self, stream=None, order="C", out=None, blocking=True):
        waits("get")
        return self._hidden.copy(order)

    def item(self):
        waits("item")
        return self._hidden.item()

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if casting is not None or subok is not None:
            raise TypeError("CuPy: casting and subok are not supported yet")
        with np.errstate(all="ignore"):
            return wrap(self._hidden.astype(known(dtype), order, copy=copy), self)

    def fill(self, value):
        self[...] = value

    def reshape(self, *shape, order="C", copy=None):
        shape = shape[0] if len(shape) == 1 and not np.isscalar(shape[0]) else shape
        return wrap(self._hidden.reshape(shape, order=order), self)

    def transpose(self, *axes):
        return wrap(self._hidden.transpose(*axes), self)

    def swapaxes(self, axis1, axis2):
        return wrap(self._hidden.swapaxes(axis1, axis2), self)

    def __getitem__(self, index):
        _note_masks(index)
        return wrap(self._hidden[_index(index, self.shape)], self)

    def __setitem__(self, index, value):
        _note_masks(index)
        index, held = _index(index, self.shape), self._hidden
        if not isinstance(value, (ndarray, *SCALARS)):
            raise TypeError(f"Unsupported type {type(value)}: assignment to CuPy array")
        refuse_broadcast_target(held)
        places = np.arange(held.size).reshape(held.shape)[index]
        if len(np.unique(places)) < places.size:
            raise RuntimeError("CuPy: assigning twice to one place is undefined")
        with np.errstate(all="ignore"):
            held[index] = operand(value)

    def __len__(self):
        return len(self._hidden)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __bool__(self):
        waits("bool()")
        return bool(self._hidden)

    def __int__(self):
        waits("int()")
        return int(self._hidden)

    def __float__(self):
        waits("float()")
        return float(self._hidden)

    def __repr__(self):
        waits("repr")
        return repr(self._hidden)

    def __format__(self, spec):
        waits("format")
        return format(self._hidden, spec)


def wrap(result, source=None):
    """Results as CuPy gives them: arrays, views with the owner as their base."""
    if isinstance(result, (tuple, list)):
        return type(result)(wrap(part, source) for part in result)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    if source is not None and result is source._hidden:
        return source
    out = object.__new__(ndarray)
    out._hidden, out.base = np.asarray(result), None
    if source is not None and np.may_share_memory(out._hidden, source._hidden):
        out.base = source if source.base is None else source.base
    return out


def operand(x):
    """What hides in an array, or a number; refuses lists and NumPy arrays."""
    if isinstance(x, ndarray):
        return x._hidden
    if x is None or isinstance(x, SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def known(dtype):
    dtype = np.dtype(dtype)
    if dtype.char not in "?bBhHiIlLqQefdFD" and dtype.name != "bfloat16":
        raise ValueError(f"Unsupported dtype {dtype}")
    return dtype


def refuse_broadcast_target(held):
    """NumPy's broadcast views are read-only; CuPy's are not, and come out wrong."""
    axes = zip(held.strides, held.shape, strict=True)
    if held.size and any(s == 0 and n > 1 for s, n in axes):
        raise RuntimeError("CuPy: writing to a broadcast view is undefined")


def _note_masks(index):
    """CuPy counts the True of a mask, to know the shape, and waits for the count."""
    for part in index if isinstance(index, tuple) else (index,):
        if getattr(getattr(part, "dtype", None), "kind", "") == "b":
            waits("a boolean mask as an index")


def _index(index, shape):
    """An index for the hidden array; index arrays wrap around, as CuPy's do."""
    parts = list(index) if isinstance(index, tuple) else [index]
    taken = sum(_axes(part) for part in parts)
    if not any(part is Ellipsis for part in parts):
        parts.append(Ellipsis)
    axis, ready = 0, []
    for part in parts:
        if isinstance(part, ndarray):
            part = part._hidden
        if isinstance(part, (list, np.ndarray)):
            empty = isinstance(part, list) and not part
            part = np.asarray(part, np.int64 if empty else None)
            if part.dtype.kind in "iu" and axis < len(shape):
                part = part % shape[axis] if shape[axis] else part
        ready.append(part)
        axis += len(shape) - taken if part is Ellipsis else _axes(part)
    return tuple(ready)


def _axes(part):
    """How many axes of the indexed array a part of the index stands for."""
    if part is None or part is Ellipsis:
        return 0
    kind = getattr(getattr(part, "dtype", None), "kind", "i")
    return part.ndim if kind == "b" else 1


def bind(name, parameters, args, kwargs):
    """{parameter: hidden value} and what was given as `out`; TypeError for more than
    CuPy's function takes."""
    names = [p.strip("!?*") for p in parameters]
    unknown = [key for key in kwargs if key not in names]
    if len(args) > len(names) or unknown:
        raise TypeError(f"CuPy's {name} takes {names}, not {unknown or len(args)}")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    bound = {
        key: checked(name, p, given[key])
        for key, p in zip(names, parameters, strict=True)
        if key in given
    }
    return bound, given.get("out")


def checked(name, parameter, value):
    if parameter.endswith("*"):
        return [checked(name, "element!", part) for part in value]
    if parameter.endswith("?"):
        return operand(value)
    if parameter.endswith("!"):
        if value is not None and not isinstance(value, ndarray):
            raise TypeError(f"CuPy's {name}: {parameter[:-1]} is a {type(value)}")
        return None if value is None else value._hidden
    if isinstance(value, (ndarray, np.ndarray)):
        raise TypeError(f"CuPy's {name}: {parameter} cannot be an array")
    if parameter == "dtype" and value is not None:
        known(value)
    if parameter == "kind" and value not in (None, "stable"):
        raise ValueError(f"CuPy's {name} sorts by kind='stable' only, not {value!r}")
    return value


def call(function, args, bound, source, out):
    with np.errstate(all="ignore"):
        result = function(*args, **bound)
    return out if out is not None else wrap(result, source)


def _method(name, specification):
    parameters = specification.split()

    def method(self, *args, **kwargs):
        if name in WAITING:
            waits(name)
        bound, out = bind(f"ndarray.{name}", parameters, args, kwargs)
        return call(getattr(self._hidden, name), (), bound, self, out)

    return method


for _name, _specification in METHODS.items():
    setattr(ndarray, _name, _method(_name, _specification))
