"""All parameters of a model in one launch: Adam, clipping, casts to and from 16 bits.

The kernels read a table of addresses, which is made anew for each launch: gradients lie
elsewhere in each step.
"""

import numpy as np

from ..backend import device_of, to_device
from .arrays import NUMBERS, address_of, ceil, contiguous, empty
from .kernel import load

CHUNK, BLOCK = 4096, 256  # numbers and threads of a block; as in parameters.cuh
_PLACE = [("first", "i8"), ("size", "i8")]
_FLOATS = ("shrink", "decay", "beta1", "rest1", "beta2", "rest2", "rate", "eps")
ADAM = [*_PLACE, *((name, "u8") for name in "pgmv"), *((s, "f4") for s in _FLOATS)]
GRADIENTS = [*_PLACE, ("g", "u8")]
CAST = [*_PLACE, ("x", "u8"), ("y", "u8")]


def is_served(*arrays):
    """True if the kernels can change these arrays where they lie."""
    return all(x.dtype == "float32" and x.flags.c_contiguous for x in arrays)


def adam(entries):
    """A step for all entries (p, g, m, v, settings), in place; p, m and v are `served`.

    `settings` are the numbers that adam.cu names: shrink, decay, … eps.
    """
    p, g, m, v, settings = zip(*entries, strict=True)
    held = [contiguous(x) for x in g]  # until the launch
    places = zip("pgmv", (p, held, m, v), strict=True)
    columns = {name: [address_of(x) for x in arrays] for name, arrays in places}
    columns |= {name: [numbers[name] for numbers in settings] for name in _FLOATS}
    chunks, table = _table(ADAM, held, columns)
    if chunks:
        load("adam.cu")["adam"]((chunks,), (BLOCK,), table, len(held))


def gradient_norm(gradients):
    """√Σ g² of all numbers of some arrays, 0-d, float64; None for other than float32.

    It is infinite where a sum of 16 squares is too large for float32.
    """
    if not gradients or not all(g.dtype == "float32" for g in gradients):
        return None
    held = [contiguous(g) for g in gradients]
    chunks, table = _table_of_gradients(held)
    parts, norm = (empty(held[0], shape, "float64") for shape in ((chunks,), ()))
    kernels = load("gradient_norm.cu")
    if chunks:
        kernels["gradient_norm_parts"]((chunks,), (BLOCK,), table, len(held), parts)
    kernels["gradient_norm"]((1,), (512,), parts, chunks, norm)
    return norm


def scale_gradients(gradients, factor):
    """Multiplies `served` arrays, each of them given once, in place by a number."""
    chunks, table = _table_of_gradients(gradients)
    if chunks:
        kernel = load("gradient_clip.cu")["gradient_scale"]
        kernel((chunks,), (BLOCK,), table, len(gradients), factor)


def clip_gradients(gradients, norm, max_norm):
    """Multiplies `served` arrays, each of them given once, in place by
    min(max_norm / (norm + 1e-6), 1); `norm` is 0-d, float64, on their device.
    """
    chunks, table = _table_of_gradients(gradients)
    if chunks:
        kernel = load("gradient_clip.cu")["gradient_clip"]
        kernel((chunks,), (BLOCK,), table, len(gradients), norm, max_norm)


def cast(arrays, dtype):
    """The arrays in another dtype, new ones; None where the kernel does not serve."""
    names = {x.dtype.name for x in arrays}
    pair = [NUMBERS.get(name) for name in (*names, np.dtype(dtype).name)]
    if len(names) != 1 or None in pair:
        return None
    held = [contiguous(x) for x in arrays]
    made = [empty(x, dtype=dtype) for x in held]
    columns = {"x": [*map(address_of, held)], "y": [*map(address_of, made)]}
    chunks, table = _table(CAST, held, columns)
    if chunks:
        load("cast.cu", *pair)["cast"]((chunks,), (BLOCK,), table, len(held))
    return made


def _table_of_gradients(arrays):
    return _table(GRADIENTS, arrays, {"g": [address_of(g) for g in arrays]})


def _table(fields, arrays, columns):
    """(chunks of all arrays, the table on their device, as bytes)."""
    table = np.zeros(len(arrays), np.dtype(fields))
    chunks = [ceil(x.size, CHUNK) for x in arrays]
    columns |= {"first": np.cumsum([0, *chunks[:-1]]), "size": [x.size for x in arrays]}
    for name, column in columns.items():
        table[name] = column
    return sum(chunks), to_device(table.view("uint8"), device_of(arrays[0]))
