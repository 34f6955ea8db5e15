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
    if len(set(dtypes.values())) > 1 or next(iter(dtypes.values())).kind != "f":
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


def check_ids(array, count, name, what):
    """Raises IndexError unless all ids are in 0 … count - 1; `what` they number."""
    if not array.size:
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
