"""A Tensor as something else: a number, an array, another dtype or device."""

import builtins

from . import backend, checks
from .arguments import bounds_of
from .ops import elementwise
from .tensor import Tensor, apply


def __bool__(x):
    if x.array.size != 1:
        raise ValueError(
            f"a tensor of shape {x.shape} is neither true nor false: "
            "use .any() or .all()"
        )
    return builtins.bool(x.item())


def __float__(x):
    return builtins.float(x.item())


def __int__(x):
    return int(x.item())


def __index__(x):
    if x.dtype.kind not in "iu" or x.ndim:
        raise TypeError("only a 0-d tensor of whole numbers can be an index")
    return int(x.item())


def numpy(x):
    """The numbers as a read-only NumPy array (a copy if they lie on a GPU)."""
    array = backend.to_device(x.array, "cpu").view()
    array.flags.writeable = False
    return array


def __array__(x, dtype=None, copy=None):
    array = x.numpy()
    wanted = array.dtype if dtype is None else dtype
    return array.astype(wanted, copy=builtins.bool(copy) or wanted != array.dtype)


def item(x):
    """The number of a tensor that holds only one, as a Python number."""
    if x.array.size != 1:
        raise ValueError(f"item() needs one element, but the shape is {x.shape}")
    return x.array.item()


def tolist(x):
    """The numbers as nested Python lists."""
    return x.array.tolist()


def to(x, target):
    """On another device ("cpu", "cuda") or in another dtype; itself if it fits."""
    if isinstance(target, str) and target in ("cpu", "cuda"):
        if target == x.device:
            return x
        moved = apply(_move, x, device=backend.check_device(target))
        moved.version[2] = bounds_of(x.array) if target == "cuda" else None
        return moved
    try:
        dtype = checks.dtype(target)
    except TypeError as error:
        raise TypeError(f'to() takes "cpu", "cuda" or a dtype: {error}') from None
    return x if dtype == x.dtype else apply(elementwise.cast, x, dtype=dtype)


def cpu(x):
    """x in main memory."""
    return x.to("cpu")


def cuda(x):
    """x on the GPU."""
    return x.to("cuda")


def float(x):
    """x as float32."""
    return x.to("float32")


def double(x):
    """x as float64."""
    return x.to("float64")


def half(x):
    """x as float16."""
    return x.to("float16")


def long(x):
    """x as int64."""
    return x.to("int64")


def bool(x):
    """x as booleans: False where it is 0."""
    return x.to("bool")


def _move(x, *, device):
    """x on another device. backward: the gradient goes back to where x lies."""
    home = backend.device_of(x)
    return backend.to_device(x, device), lambda dy: (backend.to_device(dy, home),)


for _function in (
    __bool__, __float__, __int__, __index__, numpy, __array__, item, tolist,
    to, cpu, cuda, float, double, half, long, bool,
):  # fmt: skip
    setattr(Tensor, _function.__name__, _function)
