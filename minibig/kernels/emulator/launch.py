"""Launches kernels of a library that the emulator built."""

import ctypes
from contextlib import contextmanager

import numpy as np

from ..tensor_map import TensorMap

MOST_SHARED = 227 << 10  # bytes: what compute capability 9.0 gives to a block
_state = {"seed": 0}


class EmulatorError(RuntimeError):
    """What the emulator found: a wrong address, a barrier not reached, no compiler."""


@contextmanager
def shuffled(seed):
    """Within it threads and blocks run in the order that `seed`, a number, draws."""
    before, _state["seed"] = _state["seed"], seed
    try:
        yield
    finally:
        _state["seed"] = before


class Library:
    """Built kernels, by their C++ names: `launch("name<64>", …)`."""

    def __init__(self, path, expressions):
        self.numbers = {name: i for i, name in enumerate(expressions)}
        # PyDLL keeps Python's lock: a machine runs one kernel at a time
        self.function = ctypes.PyDLL(str(path)).emulator_launch
        self.function.restype = ctypes.c_char_p

    def launch(self, expression, parameters, grid, block, values, shared=0):
        """Runs a kernel; `values` are NumPy arrays, None, or NumPy numbers.

        Raises EmulatorError with the kernel, the block, the thread and what it did.
        """
        grid, block = ((*size, 1, 1)[:3] for size in (grid, block))
        _check_size(expression, grid, block, shared)
        n = len(values)
        maps = [x.emulated() if isinstance(x, TensorMap) else None for x in values]
        values = [x.memory() if isinstance(x, TensorMap) else x for x in values]
        held = [np.asarray(0 if x is None else x) for x in values]
        sizes = [_bytes(p, x) for p, x in zip(parameters, values, strict=True)]
        message = self.function(
            self.numbers[expression],
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            ctypes.c_size_t(shared),
            ctypes.c_ulonglong(_state["seed"]),
            n,
            (ctypes.c_void_p * n)(*(x.ctypes.data for x in held)),
            (ctypes.c_longlong * n)(*sizes),
            bytes(p.writable for p in parameters),
            (ctypes.c_void_p * n)(*(m and m.ctypes.data for m in maps)),
            (ctypes.c_char_p * n)(*(p.name.encode() for p in parameters)),
        )
        if message:
            raise EmulatorError(f"{expression}: {message.decode()}")


def _bytes(parameter, value):
    """An array's bytes, 0 for None, -1 for a number."""
    if not parameter.pointer and not value.ndim:
        return -1
    return 0 if value is None else value.nbytes


def _check_size(expression, grid, block, shared):
    """CUDA's limits, which the emulator keeps."""
    if shared > MOST_SHARED:
        raise EmulatorError(
            f"{expression}: {shared} bytes of shared memory, but a GPU gives a block "
            f"at most {MOST_SHARED} (Hopper; older ones less)"
        )
    threads = block[0] * block[1] * block[2]
    allowed = grid[0] < 2**31 and max(grid[1:]) < 2**16 and block[2] <= 64
    if min(*grid, *block) < 1 or threads > 1024 or not allowed:
        raise EmulatorError(
            f"{expression}: CUDA allows 1 to 1024 threads a block and a grid of 1 to "
            f"2147483647 × 65535 × 65535 blocks, not {block} and {grid}"
        )
