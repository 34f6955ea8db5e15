"""What the functions of neural networks ask of the Tensors they are given."""

import numpy as np

from . import backend, checks
from .tensor import Tensor


def check_floats(name, **tensors):
    """Raises unless all are Tensors of one floating dtype on one device.

    Weight and bias may be None, but not what comes first.
    """
    first = next(iter(tensors))
    given = {
        key: x
        for key, x in tensors.items()
        if x is not None or key == first or key not in ("weight", "bias")
    }
    for key, x in given.items():
        checks.kind(f"{name}: {key}", x, Tensor)
    dtypes = {key: x.dtype for key, x in given.items()}
    if len(set(dtypes.values())) > 1 or not checks.is_float(dtypes[first]):
        said = ", ".join(f"{key} {dtype}" for key, dtype in dtypes.items())
        raise TypeError(f"{name} needs one floating dtype throughout, not {said}")
    backend.array_module(*(x.array for x in given.values()))


def ids_array(ids, name):
    """Ids as an array of whole numbers."""
    array = ids.array.copy() if isinstance(ids, Tensor) else ids  # for backward
    array = array if backend.is_array(array) else np.asarray(array)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{name}: ids must be whole numbers (int64), not {array.dtype}; shape "
            f"{array.shape}"
        )
    return array


def bounds_of(array):
    """(lowest, next lowest, highest) of whole numbers on the CPU, for `check_ids`.

    None where there is nothing to know: for a GPU's arrays, other numbers, no numbers.
    """
    known = backend.device_of(array) == "cpu" and array.dtype.kind in "iu"
    if not known or not array.size:
        return None
    low, high = int(array.min()), int(array.max())
    above = array[array != low]
    return low, int(above.min()) if above.size else high, high


def known_bounds(ids):
    """What is known of ids on a GPU without waiting for it: see `bounds_of`; or None.

    They were noted when the ids were sent there. A view's lie within them.
    """
    return ids.version[2] if isinstance(ids, Tensor) else None


def check_ids(array, count, name, what, bounds=None):
    """Raises IndexError unless all ids are in 0 … count - 1; `what` they number.

    Known `bounds` within them save the look at the array, for which a GPU must be
    waited for.
    """
    if not array.size or (bounds and bounds[0] >= 0 and bounds[2] < count):
        return
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= count:
        raise IndexError(
            f"{name}: id {low if low < 0 else high} is outside 0 … {count - 1}: "
            f"there are {count} {what}"
        )


def beside(array, x):
    """Ids given as plain numbers go where the tensor lies."""
    return backend.to_device(array, x.device)
