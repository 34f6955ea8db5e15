"""What can be written with an operator sign, and the functions of each number.

Every function here takes Tensors (numbers and arrays where one of two is a Tensor), and
`attach` makes them methods and operators of Tensor too.
"""

import numbers
import operator

import numpy as np

from . import backend, checks
from .creation import tensor
from .ops import arithmetic, elementwise
from .ops import matmul as products
from .tensor import Tensor, apply


def promote(*dtypes):
    """The dtype of a result: the wider float; a float before whole numbers; no float64
    unless there was one."""
    floats = [d for d in dtypes if checks.is_float(d)]
    return np.result_type(*(floats or dtypes))


def operands(a, b, name):
    """a and b with one dtype and shapes that broadcast; numbers stay numbers.

    Plain arrays and lists take the tensor's own float dtype. Raises ValueError for
    shapes that do not broadcast, DeviceError for tensors on two devices.
    """
    a, b = _number_or_tensor(a, b), _number_or_tensor(b, a)
    if not isinstance(a, Tensor):
        return a, _fit_number(b, a)
    if not isinstance(b, Tensor):
        return _fit_number(a, b), b
    backend.array_module(a.array, b.array)
    if a.shape != b.shape:
        check_broadcast(name, a.shape, b.shape)
    if a.dtype != b.dtype:
        dtype = promote(a.dtype, b.dtype)
        a, b = a.to(dtype), b.to(dtype)
    return a, b


def _number_or_tensor(x, other):
    if isinstance(x, (Tensor, bool, int)):
        return x
    if isinstance(x, (numbers.Real, np.generic)):
        return x.item() if isinstance(x, np.generic) else float(x)
    if not isinstance(x, (list, tuple)) and not backend.is_array(x):
        raise TypeError(f"a tensor cannot be combined with {type(x).__name__}")
    x = tensor(x, device=other.device)
    if x.is_floating_point() and other.is_floating_point():
        x = x.to(other.dtype)
    return x


def _fit_number(x, number):
    """A tensor of whole numbers meets a float as float32, as in PyTorch."""
    whole = isinstance(number, float) and not x.is_floating_point()
    return x.to("float32") if whole else x


def check_broadcast(name, first, second):
    """Raises ValueError, naming the axis, unless the two shapes broadcast."""
    for i in range(1, min(len(first), len(second)) + 1):
        n, m = first[-i], second[-i]
        if n != m and n != 1 and m != 1:
            raise ValueError(
                f"{name}: shapes {first} and {second} do not broadcast: axis -{i} has "
                f"{n} and {m}, and neither is 1"
            )


def _floating(x):
    x = x if isinstance(x, Tensor) else tensor(x)
    return x if x.is_floating_point() else x.to("float32")


def add(a, b):
    """a + b; shapes broadcast."""
    return apply(arithmetic.add, *operands(a, b, "add"))


def sub(a, b):
    """a - b; shapes broadcast."""
    return apply(arithmetic.subtract, *operands(a, b, "sub"))


def mul(a, b):
    """a * b, element by element; shapes broadcast."""
    return apply(arithmetic.multiply, *operands(a, b, "mul"))


def div(a, b):
    """a / b; whole numbers are divided as float32. Shapes broadcast."""
    a, b = operands(a, b, "div")
    a = _floating(a) if isinstance(a, Tensor) else a
    b = _floating(b) if isinstance(b, Tensor) else b
    return apply(arithmetic.divide, a, b)


def pow(a, b):
    """a to the power b; shapes broadcast."""
    a, b = operands(a, b, "pow")
    if isinstance(a, Tensor) and not isinstance(b, Tensor) and b < 0:
        a = _floating(a)
    return apply(arithmetic.power, a, b)


def neg(x):
    """-x."""
    return apply(elementwise.negative, x)


def matmul(a, b):
    """a @ b: (..., N, K) and (..., K, M) -> (..., N, M); 1-d tensors are vectors.

    Raises ValueError where the inner sizes differ or the batch axes do not broadcast.
    """
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        like = a if isinstance(a, Tensor) else b
        a, b = (x if isinstance(x, Tensor) else tensor(x, dtype=like.dtype,
                device=like.device) for x in (a, b))  # fmt: skip
    if not a.ndim or not b.ndim:
        raise ValueError(f"matmul: {a.shape} @ {b.shape}: a number is no matrix; use *")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ValueError(
            f"matmul: {a.shape} @ {b.shape}: the inner sizes {a.shape[-1]} and {inner} "
            "differ; is a transpose missing?"
        )
    check_broadcast("matmul, batch axes", a.shape[:-2], b.shape[:-2])
    backend.array_module(a.array, b.array)
    dtype = promote(a.dtype, b.dtype)
    return apply(products.matmul, a.to(dtype), b.to(dtype))


def maximum(a, b):
    """The larger of a and b, place by place."""
    return apply(elementwise.maximum, *operands(a, b, "maximum"))


def minimum(a, b):
    """The smaller of a and b, place by place."""
    return apply(elementwise.minimum, *operands(a, b, "minimum"))


def where(condition, a, b):
    """a where `condition` (a boolean Tensor) holds, else b; shapes broadcast."""
    if not isinstance(condition, Tensor) or condition.dtype != bool:
        raise TypeError("where: the condition must be a tensor of booleans")
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = tensor(
            a.item() if isinstance(a, np.generic) else a, device=condition.device
        )
    a, b = operands(a, b, "where")
    for x in (a, b):
        if isinstance(x, Tensor):
            check_broadcast("where", condition.shape, x.shape)
            backend.array_module(condition.array, x.array)
    return apply(elementwise.where, a, b, condition=condition.array.copy())


def clamp(x, min=None, max=None):
    """x, with what lies below `min` or above `max` moved there."""
    if min is None and max is None:
        raise ValueError("clamp needs min, max or both")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        raise TypeError("clamp takes numbers; use maximum and minimum with tensors")
    min, max = (
        n if n is None else checks.number("clamp: min and max", n, finite=False)
        for n in (min, max)
    )
    if isinstance(min, float) or isinstance(max, float):
        x = _floating(x)
    return apply(elementwise.clip, x, low=min, high=max)


def masked_fill(x, mask, value):
    """x with the number `value` wherever `mask` is True."""
    return where(mask, value, x)


def exp(x):
    """e to the power x."""
    return apply(elementwise.exp, _floating(x))


def log(x):
    """The natural logarithm of x."""
    return apply(elementwise.log, _floating(x))


def sqrt(x):
    """The square root of x."""
    return apply(elementwise.sqrt, _floating(x))


def sin(x):
    """The sine of x, in radians."""
    return apply(elementwise.sin, _floating(x))


def cos(x):
    """The cosine of x, in radians."""
    return apply(elementwise.cos, _floating(x))


def abs(x):
    """The distance of x from 0."""
    return apply(elementwise.absolute, x)


def tanh(x):
    """The hyperbolic tangent of x, between -1 and 1."""
    return apply(elementwise.tanh, _floating(x))


def sigmoid(x):
    """1 / (1 + e^-x), between 0 and 1."""
    return apply(elementwise.sigmoid, _floating(x))


def relu(x):
    """max(x, 0)."""
    return apply(elementwise.relu, x if isinstance(x, Tensor) else tensor(x))


def isnan(x):
    """True where x is not a number."""
    xp = backend.array_module(x.array)
    return Tensor(xp.asarray(xp.isnan(x.array)))


def isfinite(x):
    """True where x is neither infinite nor NaN."""
    xp = backend.array_module(x.array)
    return Tensor(xp.asarray(xp.isfinite(x.array)))


def remainder(a, b):
    """What is left of a after whole b's, with the sign of b, as Python's %."""
    return apply(arithmetic.remainder, *operands(a, b, "remainder"))


def _without_gradient(symbol, compute):
    """A method for comparisons and for what only whole numbers and booleans have."""

    def method(a, b):
        try:
            a, b = operands(a, b, symbol)
        except TypeError:
            return NotImplemented
        arrays = [x.array if isinstance(x, Tensor) else x for x in (a, b)]
        try:
            result = compute(*arrays)
        except TypeError:
            types = " and ".join(str(getattr(x, "dtype", type(x))) for x in arrays)
            raise TypeError(f"{symbol} takes whole numbers, not {types}") from None
        return Tensor(result if backend.is_array(result) else np.asarray(result))

    return method


def _reflected(function):
    return lambda a, b: function(b, a)


def invert(x):
    """~x: not, for booleans."""
    if x.dtype.kind == "f":
        raise TypeError(f"~ is for booleans and whole numbers, not {x.dtype}")
    return Tensor(~x.array)


def attach():
    """Makes the functions of this file methods and operators of Tensor."""
    both = {"add": add, "sub": sub, "mul": mul, "truediv": div, "pow": pow}
    for name, function in (both | {"matmul": matmul, "mod": remainder}).items():
        setattr(Tensor, f"__{name}__", function)
        setattr(Tensor, f"__r{name}__", _reflected(function))
    signs = ("eq", "ne", "lt", "le", "gt", "ge", "floordiv", "and_", "or_", "xor")
    for name in signs:
        method = _without_gradient(name.strip("_"), getattr(operator, name))
        setattr(Tensor, f"__{name.strip('_')}__", method)
    for name, function in (("neg", neg), ("abs", abs), ("invert", invert)):
        setattr(Tensor, f"__{name}__", function)
    for function in (
        add, sub, mul, div, pow, matmul, maximum, minimum, remainder, clamp,
        masked_fill, exp, log, sqrt, sin, cos, abs, tanh, sigmoid, relu, isnan,
        isfinite,
    ):  # fmt: skip
        setattr(Tensor, function.__name__, function)
    Tensor.clip = clamp


attach()
