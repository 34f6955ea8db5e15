"""What changes a tensor's numbers where they lie.

Under recording, only tensors that need no gradient may be changed; each change is
counted, and a backward pass that needs the old numbers refuses. (`x += y` is
`x = x + y`: a new tensor, always right.)
"""

import numpy as np

from . import backend
from .autograd import mode
from .creation import tensor
from .operators import check_broadcast
from .tensor import Tensor, bare_index


def _writable(x, name):
    """The array of x, to be written to."""
    if mode.recording and x.requires_grad:
        raise RuntimeError(
            f"{name} would change a tensor that requires a gradient: "
            "do it under minibig.no_grad(), or make a new tensor instead"
        )
    if not getattr(x.array.flags, "writeable", True) or _repeated(x.array):
        x.array, x.version = x.array.copy(), [0, None, None]  # no longer a view
    return x.array


def _repeated(array):
    """Whether places share memory, as in an expanded tensor: CuPy would write there."""
    return any(
        s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)
    )


def _plain(value, like):
    """`value` as an array beside `like`, or as a number."""
    if isinstance(value, (bool, int, float)):
        return value
    if mode.recording and getattr(value, "requires_grad", False):
        raise RuntimeError(
            "a change in place would lose the gradient of the tensor written: do it "
            "under minibig.no_grad(), or build the result with cat, stack or where"
        )
    if not isinstance(value, Tensor):
        value = tensor(value, dtype=like.dtype, device=like.device)
    backend.array_module(value.array, like.array)
    return value.array


def _operand(value, x, name):
    """`value` for an in-place operation on x; raises where x cannot take it."""
    value = _plain(value, x)
    shape = getattr(value, "shape", ())
    check_broadcast(name, x.shape, shape)
    if np.broadcast_shapes(x.shape, shape) != x.shape:
        raise ValueError(f"{name}: shape {shape} does not fit into {x.shape}")
    return value


def _addend(value, x, name):
    """An operand for arithmetic, whose result x must be able to hold."""
    value = _operand(value, x, name)
    floats = isinstance(value, float) or getattr(value, "dtype", x.dtype).kind == "f"
    if floats and x.dtype.kind != "f":
        raise TypeError(f"{name}: {x.dtype} holds no fractions: use .float() first")
    return value


def __setitem__(x, index, value):
    """x[index] = value, broadcast."""
    array, value = _writable(x, "assignment"), _plain(value, x)
    try:
        array[bare_index(index)] = value
    except (IndexError, ValueError) as error:
        what = f"assignment to a tensor of {x.shape}"
        raise type(error)(f"{what}: {error}") from None
    x.changed()


def copy_(x, other):
    """Takes over the numbers of `other`, broadcast."""
    return _overwrite(x, other, "copy_")


def fill_(x, value):
    """Every number becomes `value`."""
    return _overwrite(x, value, "fill_")


def zero_(x):
    """Every number becomes 0."""
    return _overwrite(x, 0, "zero_")


def _overwrite(x, value, name):
    _writable(x, name)[...] = _operand(value, x, name)
    x.changed()
    return x


def add_(x, other):
    """x + other, in the memory of x."""
    array = _writable(x, "add_")
    array += _addend(other, x, "add_")
    x.changed()
    return x


def mul_(x, other):
    """x * other, in the memory of x."""
    array = _writable(x, "mul_")
    array *= _addend(other, x, "mul_")
    x.changed()
    return x


for _function in (__setitem__, copy_, fill_, zero_, add_, mul_):
    setattr(Tensor, _function.__name__, _function)
