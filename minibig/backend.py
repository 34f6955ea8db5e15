"""Where arrays live: NumPy on the CPU, CuPy on a CUDA GPU, and how they travel.

The arrays decide: `array_module(x)` answers the module that owns the data at hand, and
the ops are written once in terms of it. This is the only file that imports CuPy.
Notebook 15 teaches what stands here.
"""

import importlib
import math
from contextlib import contextmanager

import numpy as np

from . import checks, threads

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
    until a row is too small beside the sum to count: those are added in pieces. CuPy
    reads 16 bits as float32 while it adds, if told so (by CUB it would not).
    """
    if not checks.is_float(x.dtype):
        return x.sum(axis, keepdims=keepdims)
    narrow = x.dtype.itemsize == 2
    if array_module(x) is not np:
        wide = x.sum(axis, "float32" if narrow else None, keepdims=keepdims)
        return wide.astype(x.dtype, copy=False)
    wide = x.astype("float32") if narrow else x
    if axis is not None:
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
    if array_module(x) is not np:  # CuPy's does not, and its @ would copy x
        return x.sum(-1, keepdims=True)
    return (x @ np.ones(x.shape[-1], x.dtype))[..., None]


def row_dot(a, b):
    """Σ a b of each row, (..., 1); on the CPU without the array of products."""
    xp = array_module(a, b)
    if xp is np:
        return np.vecdot(a, b)[..., None]
    wide = "float32" if a.dtype == b.dtype == "float16" else None
    return xp.multiply(a, b, dtype=wide).sum(-1, keepdims=True)


def zero_rows(x, mask):
    """Writes 0 into the rows of x (N, C) where the mask (N,) is True.

    An index with a mask would make the CPU wait for the GPU, which counts the True.
    """
    if array_module(x) is np:
        x[mask] = 0
    else:
        array_module(x).copyto(x, 0, where=mask[:, None])


def read(arrays):
    """Single numbers, from arrays of one each, as Python floats.

    From a GPU they come in one transfer, for which the CPU waits until the GPU has done
    everything it was given: the one place where training does so.
    """
    xp = array_module(*arrays)
    if xp is np:
        return [float(x) for x in arrays]
    return xp.stack([x.astype("float64").reshape(()) for x in arrays]).get().tolist()


# ---- blocks of rows: cache and cores for NumPy --------------------------------------

BLOCK = 1 << 16  # elements of a block that stays in a core's cache: 256 kB of float32
LARGE = 8 * BLOCK  # of one that need not, where a block makes a few short calls
SHARED = 2 * BLOCK  # elements that are worth a second thread
PRODUCT = 1 << 24  # multiplications that are


def by_rows(function, *arrays, size=None, block=BLOCK):
    """Calls `function(*blocks)` on blocks of rows of `arrays`; the results, in order.

    The arrays share their first axis; a block is the same range of it in each. On the
    CPU several threads take the blocks, each of a size that fits the cache, so that a
    chain of elementwise functions runs several times faster than on the whole arrays.
    The function writes what is large into blocks of arrays made beforehand. `size` is
    the number of elements that all rows together touch (default: of the first array),
    `block` how many a block may touch. Small arrays, and CuPy's, are served in one
    call.
    """
    first, size = arrays[0], size or arrays[0].size
    if size < SHARED or len(first) < 2 or array_module(first) is not np:
        return [function(*arrays)]
    team = threads.team()
    rounds = -(-size // (block * team.size))  # each thread takes a block in each
    if rounds <= 4:  # then fewer calls, for which threads wait, win over the cache
        rounds = 1
    step = -(-len(first) // (rounds * team.size))

    def serve(i):
        return function(*(a[i * step : (i + 1) * step] for a in arrays))

    return team.run(serve, -(-len(first) // step))


def add(a, b):
    """a + b; on the CPU the threads share large arrays of one shape and order."""
    alike = is_array(a) and is_array(b) and a.shape == b.shape
    if not alike or a.size < SHARED or array_module(a, b) is not np:
        return a + b
    order = sorted(range(a.ndim), key=lambda axis: -a.strides[axis])
    out = np.empty_like(a, dtype=np.result_type(a, b))
    arrays = [x.transpose(order) for x in (a, b, out)]  # the longest strides first
    by_rows(lambda a, b, out: np.add(a, b, out=out), *arrays, block=LARGE)
    return out


def matmul(a, b):
    """a @ b; on the CPU the threads share the batch, or the longer side of the result.

    Each piece runs on one BLAS thread: OpenBLAS's own spin while they wait. A piece
    needs one operand whole, and BLAS copies that into an order of its own: so it is the
    longer side that is cut, into few pieces.
    """
    return matmuls((a, b))[0]


def matmuls(*pairs):
    """[a @ b for a, b in pairs], which the threads share as one piece of work.

    NumPy multiplies float16 without BLAS, a hundred times slower: there in float32.
    """
    if array_module(*pairs[0]) is np and pairs[0][0].dtype == "float16":
        wide = [[x.astype("float32") for x in pair] for pair in pairs]
        return [y.astype("float16") for y in matmuls(*wide)]
    work = sum(math.prod(a.shape) * b.shape[-1] for a, b in pairs)
    if array_module(*pairs[0]) is not np or work < PRODUCT:
        threads.team()  # sees to it that BLAS works on one thread
        return [a @ b for a, b in pairs]
    team, outs, pieces = threads.team(), [], []
    for a, b in pairs:
        dtype = np.result_type(a, b)
        batched = b.ndim > 2
        if batched and a.shape[:-2] != b.shape[:-2]:
            lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            a, b = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, b))
        out = np.empty((*a.shape[:-1], b.shape[-1]), dtype)
        outs.append(out)
        wide = out.shape[-1] > len(out) and not batched
        for piece in _cut(out.shape[-1] if wide else len(out), team.size):
            if wide:
                pieces.append((a, b[:, piece], out[..., piece]))
            else:
                pieces.append((a[piece], b[piece] if batched else b, out[piece]))

    def serve(i):
        a, b, out = pieces[i]
        np.matmul(a, b, out=out)

    team.run(serve, len(pieces))
    return outs


def _cut(length, workers):
    """Slices of `length` for that many workers: the first takes most, as it begins at
    once, then one for each of the others, which must wake up first, then smaller ones
    for those who are ready first."""
    parts = [5] + [3] * (workers - 1) + [2] * (workers - 1)
    ends = [length * sum(parts[: i + 1]) // sum(parts) for i in range(len(parts))]
    starts = [0, *ends[:-1]]
    return [slice(a, b) for a, b in zip(starts, ends, strict=True) if b > a]
