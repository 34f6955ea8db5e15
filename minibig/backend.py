"""Where arrays live: NumPy on the CPU, CuPy on a CUDA GPU, and how they travel.

The arrays decide: `array_module(x)` answers the module that owns the data at hand, and
the ops are written once in terms of it. This is the only file that imports CuPy.
Notebook 15 teaches what stands here.
"""

import importlib
import math
from contextlib import contextmanager

import numpy as np

from . import threads

_state = {"device": "cpu", "cupy": None, "kernels": True}


class DeviceError(RuntimeError):
    """A device that is not there, or arrays that lie on two of them."""


def cupy():
    """The CuPy module, imported when first asked for.

    Raises DeviceError, with the command that installs it, where it is missing.
    """
    if _state["cupy"] is None:
        try:
            _state["cupy"] = importlib.import_module("cupy")
        except ImportError as error:
            raise DeviceError(
                'device "cuda" needs CuPy, which is not installed: '
                'pip install "minibig[gpu13]" (CUDA 13) or "minibig[gpu12]" (CUDA 12)'
            ) from error
    return _state["cupy"]


def array_module(*arrays):
    """NumPy or CuPy: the module that owns `arrays` (numbers and None go with any).

    Raises DeviceError when they lie on two devices.
    """
    xp = None
    for x in arrays:
        kind = type(x)
        if kind is np.ndarray:
            owner = np
        elif _state["cupy"] is not None and kind is _state["cupy"].ndarray:
            owner = _state["cupy"]
        else:
            continue
        if xp is not None and owner is not xp:
            raise DeviceError(
                "arrays lie on two devices, cpu and cuda: move them to one with "
                '.to("cuda") or .to("cpu")'
            )
        xp = owner
    return np if xp is None else xp


def is_array(x):
    """True for a NumPy or a CuPy array."""
    kind = type(x)
    return kind is np.ndarray or (
        _state["cupy"] is not None and kind is _state["cupy"].ndarray
    )


def device_of(x):
    """ "cpu" or "cuda": where the array lies."""
    return "cpu" if array_module(x) is np else "cuda"


def check_device(device):
    """`device`, if it is one we know and have; DeviceError or ValueError otherwise."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f'device must be "cpu" or "cuda", not {device!r}')
    if device == "cuda" and not cupy().cuda.is_available():
        raise DeviceError(
            'device "cuda" asked for, but CuPy finds no usable GPU: '
            "`python -m minibig doctor` names the cause"
        )
    return device


def module_of(device):
    """The array module that serves `device`."""
    return np if check_device(device) == "cpu" else cupy()


def to_device(array, device):
    """`array` on `device`: itself when it lies there already, else a copy."""
    if device_of(array) == device:
        return array
    if device == "cpu":
        return cupy().asnumpy(array)
    return module_of(device).asarray(array)


def default_device():
    """The device on which new tensors are made: "cpu" unless set otherwise."""
    return _state["device"]


def set_default_device(device):
    """Makes `device`, "cpu" or "cuda", the place of tensors created from now on."""
    _state["device"] = check_device(device)


def use_kernel(x):
    """True when our CUDA kernels should do the work for array `x`."""
    return _state["kernels"] and array_module(x) is not np


@contextmanager
def kernels(enabled):
    """Within it our CUDA kernels are used (True) or the plain array code (False)."""
    before, _state["kernels"] = _state["kernels"], enabled
    try:
        yield
    finally:
        _state["kernels"] = before


def erf(x):
    """The error function, elementwise: SciPy's on the CPU, CuPy's on a GPU."""
    if array_module(x) is np:
        return importlib.import_module("scipy.special").erf(x)
    return importlib.import_module(f"{cupy().__name__}x.scipy.special").erf(x)


PIECE = 256  # rows that are added up one after the other


def total(x, axis=None, keepdims=False):
    """x.sum(axis), its dtype kept, precise for long columns and for float16.

    Along its last axis NumPy adds in pairs; along the others one row after the other,
    until a row is too small beside the sum to count: those are added in pieces.
    """
    if x.dtype.kind != "f":
        return x.sum(axis, keepdims=keepdims)
    wide = x.astype("float32") if x.dtype == "float16" else x
    if axis is not None and array_module(x) is np:
        for i in axis if isinstance(axis, tuple) else (axis,):
            wide = _in_pieces(wide, i % max(x.ndim, 1))
    return wide.sum(axis, keepdims=keepdims).astype(x.dtype, copy=False)


def _in_pieces(x, axis):
    while axis < x.ndim - 1 and x.shape[axis] > 2 * PIECE:
        front = (slice(None),) * axis
        starts = range(0, x.shape[axis], PIECE)
        x = np.stack([x[*front, i : i + PIECE].sum(axis) for i in starts], axis)
    return x


def row_max(x):
    """The largest number of each row, (..., 1). NumPy finds its place much faster."""
    if array_module(x) is not np or not x.size:
        return x.max(-1, keepdims=True)
    rows = x.reshape(-1, x.shape[-1])
    largest = rows[np.arange(len(rows)), rows.argmax(-1)]
    return largest.reshape(*x.shape[:-1], 1)


def row_sum(x):
    """The sum of each row, (..., 1): BLAS adds faster than NumPy's `sum`."""
    return (x @ array_module(x).ones(x.shape[-1], x.dtype))[..., None]


def row_dot(a, b):
    """Σ a b of each row, (..., 1), without the array of products."""
    if array_module(a, b) is np:
        return np.vecdot(a, b)[..., None]
    return array_module(a, b).einsum("...c,...c->...", a, b)[..., None]


# ---- blocks of rows: cache and cores for NumPy --------------------------------------

BLOCK = 1 << 16  # elements a block should touch: 256 kB of float32
PRODUCT = 1 << 21  # multiplications that are worth a second thread


def by_rows(function, *arrays, size=None):
    """Calls `function(*blocks)` on blocks of rows of `arrays`; the results, in order.

    The arrays share their first axis; a block is the same range of it in each. On the
    CPU several threads take the blocks, each of a size that fits the cache, so that a
    chain of elementwise functions runs several times faster than on the whole arrays.
    The function writes what is large into blocks of arrays made beforehand. `size` is
    the number of elements that all rows together touch (default: of the first array).
    Small arrays, and CuPy's, are served in one call.
    """
    first, size = arrays[0], size or arrays[0].size
    if size < 2 * BLOCK or len(first) < 2 or array_module(first) is not np:
        return [function(*arrays)]
    step = max(1, len(first) * BLOCK // size)

    def serve(i):
        return function(*(a[i * step : (i + 1) * step] for a in arrays))

    return threads.team().run(serve, -(-len(first) // step))


def add(a, b):
    """a + b; on the CPU the threads share large arrays of one shape."""
    if np.shape(a) != np.shape(b) or array_module(a, b) is not np or not np.ndim(a):
        return a + b
    out = np.empty_like(a, dtype=np.result_type(a, b))
    by_rows(lambda a, b, out: np.add(a, b, out=out), a, b, out)
    return out


def matmul(a, b):
    """a @ b; on the CPU the threads share the batch, or the longer side of the result.

    Each block runs on one BLAS thread: OpenBLAS's own spin while they wait. A block
    needs one operand whole, and BLAS copies that into an order of its own: so it is the
    longer side that is cut, into few pieces.
    """
    if array_module(a, b) is not np:
        return a @ b
    shape = (*a.shape[:-1], b.shape[-1])
    size = math.prod(a.shape) * shape[-1]  # multiplications
    batched = b.ndim > 2
    team = threads.team()
    if size < PRODUCT or (batched and a.shape[:-2] != b.shape[:-2]):
        return a @ b
    out = np.empty(shape, np.result_type(a, b))
    wide = shape[-1] > shape[0] and not batched
    cuts = _cuts(shape[-1] if wide else shape[0], team.size)

    def serve(i):
        piece = slice(cuts[i], cuts[i + 1])
        if wide:
            np.matmul(a, b[:, piece], out=out[:, piece])
        else:
            np.matmul(a[piece], b[piece] if batched else b, out=out[piece])

    team.run(serve, len(cuts) - 1)
    return out


def _cuts(length, workers):
    """Where `length` is cut: a large piece for each worker, then a small one for each,
    which whoever is ready first takes."""
    large, small = 3 * length // (4 * workers), length // (4 * workers)
    cuts = [large * i for i in range(workers + 1)]
    cuts += [cuts[-1] + small * i for i in range(1, workers)] + [length]
    return sorted(set(cuts))
