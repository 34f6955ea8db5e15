"""The functions of the stand-in for CuPy: `module` takes the place of CuPy's module.

Only functions that CuPy 14 has, with its parameters; test_strict.py holds the tables
against CuPy where that is installed (no GPU needed).
"""

import types

import numpy as np
from strict_array import (
    WAITING,
    bind,
    call,
    checked,
    is_slow,
    known,
    ndarray,
    operand,
    refuse_broadcast_target,
    waits,
    wrap,
)

module = types.ModuleType("strict_cupy", __doc__)

# The parameters of CuPy's functions. "!": a CuPy array; "?": an array or a number;
# "*": a list of arrays; the ones before "/" go to NumPy by position.
FUNCTIONS = {
    "all": "a! / axis out! keepdims",
    "amax": "a! / axis out! keepdims",
    "amin": "a! / axis out! keepdims",
    "any": "a! / axis out! keepdims",
    "arange": "start stop step / dtype",
    "argmax": "a! / axis dtype out! keepdims",
    "argmin": "a! / axis dtype out! keepdims",
    "argsort": "a! / axis kind",
    "ascontiguousarray": "a! / dtype",
    "bincount": "x! / weights! minlength",
    "broadcast_to": "array! shape /",
    "clip": "a! a_min? a_max? / out!",
    "concatenate": "tup* / axis out! dtype casting",
    "count_nonzero": "a! / axis",
    "cumprod": "a! / axis dtype out!",
    "cumsum": "a! / axis dtype out!",
    "diff": "a! / n axis prepend! append!",
    "dot": "a! b! / out!",
    "empty": "shape / dtype order",
    "empty_like": "prototype! / dtype order subok shape",
    "expand_dims": "a! / axis",
    "eye": "N / M k dtype order",
    "flatnonzero": "a! /",
    "flip": "a! / axis",
    "full": "shape fill_value? / dtype order",
    "full_like": "a! fill_value? / dtype order subok shape",
    "linspace": "start stop / num endpoint retstep dtype axis",
    "max": "a! / axis out! keepdims",
    "mean": "a! / axis dtype out! keepdims",
    "min": "a! / axis out! keepdims",
    "moveaxis": "a! source destination /",
    "nonzero": "a! /",
    "ones": "shape / dtype order",
    "ones_like": "a! / dtype order subok shape",
    "outer": "a! b! / out!",
    "partition": "a! kth / axis",
    "prod": "a! / axis dtype out! keepdims",
    "ravel": "a! / order",
    "repeat": "a! repeats / axis",
    "reshape": "a! newshape / order copy",
    "roll": "a! shift / axis",
    "searchsorted": "a! v! / side sorter!",
    "sort": "a! / axis kind",
    "split": "ary! indices_or_sections / axis",
    "squeeze": "a! / axis",
    "stack": "tup* / axis out! dtype casting",
    "std": "a! / axis dtype out! ddof keepdims",
    "sum": "a! / axis dtype out! keepdims",
    "swapaxes": "a! axis1 axis2 /",
    "take": "a! indices! / axis out!",
    "take_along_axis": "a! indices! / axis",
    "tensordot": "a! b! / axes",
    "tile": "A! reps /",
    "transpose": "a! / axes",
    "tril": "m! / k",
    "triu": "m! / k",
    "var": "a! / axis dtype out! ddof keepdims",
    "vdot": "a! b! /",
    "zeros": "shape / dtype order",
    "zeros_like": "a! / dtype order subok shape",
}
UFUNCS = (
    "absolute", "add", "bitwise_and", "bitwise_or", "bitwise_xor", "cos", "divide",
    "equal", "exp", "exp2", "expm1", "floor", "floor_divide", "greater",
    "greater_equal", "invert", "isfinite", "isinf", "isnan", "left_shift", "less",
    "less_equal", "log", "log1p", "log2", "logical_and", "logical_not", "logical_or",
    "maximum", "minimum", "multiply", "negative", "not_equal", "power", "reciprocal",
    "remainder", "right_shift", "sign", "signbit", "sin", "sqrt", "square", "subtract",
    "tan", "tanh", "true_divide",
)  # fmt: skip


def _function(name, specification):
    before, _, after = specification.partition("/")
    first, parameters = before.split(), [*before.split(), *after.split()]
    names = [p.strip("!?*") for p in first]

    def function(*args, **kwargs):
        if name in WAITING:
            waits(name)
        bound, out = bind(name, parameters, args, kwargs)
        source = args[0] if args and isinstance(args[0], ndarray) else None
        if name == "broadcast_to" and source.shape == _sizes(bound["shape"]):
            return source  # as CuPy: no new view
        positional = [bound.pop(n) for n in names if n in bound]
        return call(getattr(np, name), positional, bound, source, out)

    function.__name__ = name
    return function


def _sizes(shape):
    return (shape,) if isinstance(shape, int) else tuple(shape)


class ufunc:
    """A NumPy ufunc that takes strict arrays and numbers, with CuPy's options."""

    def __init__(self, name):
        self.inner, self.__name__ = getattr(np, name), name

    def __call__(self, *args, out=None, casting="same_kind", dtype=None):
        if len(args) > self.inner.nin:
            *args, out = args
        if out is not None:
            if not isinstance(out, ndarray):
                raise TypeError(f"output must be a CuPy array, not {type(out)}")
            refuse_broadcast_target(out._hidden)
        bound = {"casting": casting, "out": None if out is None else out._hidden}
        if dtype is not None:
            bound["dtype"] = known(dtype)
        return call(self.inner, [operand(x) for x in args], bound, None, out)

    def at(self, a, indices, b=None):
        if self.__name__ not in ("add", "subtract", "maximum", "minimum"):
            raise NotImplementedError(f"`{self.__name__}.at` is not supported yet")
        refuse_broadcast_target(a._hidden)
        places = operand(indices) % max(a.shape[0], 1)  # out of bounds they wrap around
        self.inner.at(a._hidden, places, operand(b))

    def reduceat(self, array, indices, axis=0, dtype=None, out=None):
        if self.__name__ != "add":
            raise NotImplementedError(f"CuPy has no {self.__name__}.reduceat")
        array, indices = checked("reduceat", "array!", array), operand(indices)
        # As CuPy: differences of running sums, whose rounding stays in small sums.
        shape = [1 if i == axis else n for i, n in enumerate(array.shape)]
        running = np.cumsum(array, axis, dtype)
        running = np.concatenate([np.zeros(shape, running.dtype), running], axis)
        ends = np.append(indices, array.shape[axis])
        begins, ends = ends[:-1], ends[1:]
        sums = np.take(running, ends, axis) - np.take(running, begins, axis)
        alone = (begins >= ends).reshape(-1, *[1] * (array.ndim - axis - 1))
        return wrap(np.where(alone, np.take(array, begins, axis, mode="wrap"), sums))


def _operator(name, function, reflected=False, inplace=False):
    def method(self, other):
        if not isinstance(other, ndarray) and _defers_to(other):
            return NotImplemented
        if inplace:
            return function(self, other, out=self)
        return function(other, self) if reflected else function(self, other)

    method.__name__ = name
    return method


def _unary(function):
    return lambda x: function(x)


def _defers_to(other):
    return getattr(other, "__array_ufunc__", "none") is None


def matmul(a, b, out=None, dtype=None):
    a, b = checked("matmul", "a!", a), checked("matmul", "b!", b)
    folded = max(a.ndim, b.ndim) < 3 or not a.size or not b.size
    if not folded and (min(a.ndim, b.ndim) < 2 or a.shape[:-2] != b.shape[:-2]):
        is_slow(f"matmul of {a.shape} and {b.shape}: fold the batch into the rows")
    result = np.result_type(a, b)
    if result == np.float16:  # added up in float32
        a, b = a.astype(np.float32), b.astype(np.float32)
    if result.name == "bfloat16":
        if max(a.ndim, b.ndim) > 2:
            raise TypeError("CuPy crashes on a matmul of bfloat16 with more axes")
        a, b = a.astype(np.float32), b.astype(np.float32)
    y = call(np.matmul, (a, b), {}, None, None)
    if out is None:
        return wrap(y._hidden.astype(result, copy=False))
    refuse_broadcast_target(out._hidden)
    np.copyto(out._hidden, y._hidden.astype(result, copy=False), casting="same_kind")
    return out


def einsum(subscripts, *operands, dtype=None, optimize=False):
    """CuPy's has no `out`, `order` and `casting`."""
    arrays = [checked("einsum", "operand!", x) for x in operands]
    result = np.einsum(subscripts, *arrays, dtype=dtype, optimize=optimize)
    return wrap(result, operands[0] if len(operands) == 1 else None)


def where(condition, x=None, y=None):
    condition = checked("where", "condition!", condition)
    if condition.dtype != bool:
        condition = condition.astype(bool)
    if x is None and y is None:
        waits("where of a condition alone")
        return wrap(np.nonzero(condition))
    if any(getattr(a, "dtype", condition.dtype).name == "bfloat16" for a in (x, y)):
        raise TypeError("CuPy's where has no bfloat16")
    return wrap(np.where(condition, operand(x), operand(y)))


def copyto(dst, src, casting="same_kind", where=None):
    target, source = checked("copyto", "dst!", dst), operand(src)
    refuse_broadcast_target(target)
    chosen = True if where is None else checked("copyto", "where!", where)
    np.copyto(target, source, casting=casting, where=chosen)


def atleast_1d(*arys):
    found = [x if x.ndim else x.reshape(1) for x in arys]
    return found[0] if len(found) == 1 else found


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, blocking=False):
    if isinstance(obj, ndarray):
        return obj.astype(obj.dtype if dtype is None else dtype, copy=copy)
    held = np.array(obj, dtype)
    known(held.dtype)
    return wrap(held)


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return array(a, dtype, copy=bool(copy))


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    return a.get(order=order) if isinstance(a, ndarray) else np.asarray(a)


def as_strided(x, shape=None, strides=None):
    """CuPy's has no `writeable`."""
    held = np.lib.stride_tricks.as_strided(x._hidden, shape, strides)
    view = wrap(held)
    view.base = x if x.base is None else x.base
    return view


def __getattr__(name):
    raise AttributeError(
        f"the stand-in for CuPy offers no {name!r}: look up whether CuPy 14 has it, "
        "and with which parameters, then add it to tests/strict_module.py"
    )


def _fill_module():
    for name, specification in FUNCTIONS.items():
        setattr(module, name, _function(name, specification))
    for name in UFUNCS:
        setattr(module, name, ufunc(name))
    module.abs = module.absolute
    for function in (
        matmul, einsum, where, array, asarray, asnumpy, copyto, atleast_1d, __getattr__
    ):  # fmt: skip
        setattr(module, function.__name__, function)
    for name in ("float16", "float32", "float64", "int32", "int64", "bool_", "uint8",
                 "finfo", "iinfo", "dtype", "result_type", "inf", "nan", "pi",
                 "newaxis"):  # fmt: skip
        setattr(module, name, getattr(np, name))
    module.ndarray = ndarray
    tricks = types.SimpleNamespace(as_strided=as_strided)
    module.lib = types.SimpleNamespace(stride_tricks=tricks)
    module.cuda = types.SimpleNamespace(is_available=lambda: True)


def _attach_operators():
    arithmetic = {
        "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "true_divide",
        "floordiv": "floor_divide", "mod": "remainder", "pow": "power",
        "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
        "lshift": "left_shift", "rshift": "right_shift", "matmul": "matmul",
    }  # fmt: skip
    for short, long in arithmetic.items():
        function = getattr(module, long)
        for prefix, options in (("", {}), ("r", {"reflected": True})):
            name = f"__{prefix}{short}__"
            setattr(ndarray, name, _operator(name, function, **options))
        name = f"__i{short}__"
        if short != "matmul":
            setattr(ndarray, name, _operator(name, function, inplace=True))
    comparisons = {"lt": "less", "le": "less_equal", "eq": "equal", "ne": "not_equal",
                   "gt": "greater", "ge": "greater_equal"}  # fmt: skip
    for short, long in comparisons.items():
        name = f"__{short}__"
        setattr(ndarray, name, _operator(name, getattr(module, long)))
    for short, long in (("neg", "negative"), ("abs", "absolute"), ("invert", "invert")):
        setattr(ndarray, f"__{short}__", _unary(getattr(module, long)))


_fill_module()
_attach_operators()

special = types.ModuleType("strict_cupyx.scipy.special")


def erf(x, out=None, *, casting="same_kind", dtype=None):
    from scipy.special import erf as on_cpu

    return wrap(np.asarray(on_cpu(operand(x))))


special.erf = erf
