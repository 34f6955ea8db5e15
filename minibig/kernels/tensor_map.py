"""Tensor maps: what Hopper's copy engine has to know of an array (`tma.cuh`)."""

import ctypes
import functools
import sys

import numpy as np

from .arrays import address_of

COLUMNS = 64  # of 2 bytes, which a copy brings
MULTIPLE = 16  # bytes: of addresses and of steps
# emulator/tma.h
EMULATED = [("array", "u8"), ("sizes", "i8", 4), ("steps", "i8", 3), ("box", "i8", 2)]
# CUDA's names for what cuTensorMapEncodeTiled is told, cuda.h
UINT16, SWIZZLE_128B, PROMOTION_256B = 1, 3, 3


class TensorMapError(RuntimeError):
    """The CUDA driver makes no tensor map; the message has its reason."""


def mappable(array):
    """Whether the copy engine finds its way in an array (B, H, T, D) of 16 bits.

    A row's numbers lie side by side; rows, heads and sequences anywhere, in steps of
    whole 16 bytes.
    """
    *steps, step = array.strides
    # CuPy and NumPy may answer anything for an axis of 1
    used = [s for s, n in zip(steps, array.shape, strict=False) if n > 1]
    whole = all(s > 0 and s % MULTIPLE == 0 for s in used)
    beside = step == 2 and 2 * array.shape[-1] % MULTIPLE == 0
    return whole and beside and address_of(array) % MULTIPLE == 0


class TensorMap:
    """A kernel's argument: an array (B, H, T, D) of 16 bits, in boxes.

    One copy brings a box of 64 columns and `rows` rows of one head.
    Raises ValueError where the array is not `mappable`, or has other axes or numbers.
    """

    def __init__(self, array, rows=128):
        if array.dtype.itemsize != 2 or array.ndim != 4 or not mappable(array):
            raise ValueError(
                "TensorMap: wants four axes of 16 bits, rows of whole 16 bytes and in "
                f"steps of 16 bytes, not {array.shape} {array.dtype}, strides "
                f"{array.strides}"
            )
        self.array, self.box = array, (COLUMNS, rows)
        self.sizes = array.shape[::-1]
        pairs = zip(array.shape, array.strides, strict=True)
        self.steps = [s if n > 1 else MULTIPLE for n, s in pairs][2::-1]

    def emulated(self):
        """As the emulator reads it, without the address: the launch knows it."""
        return np.array([(0, self.sizes, self.steps, self.box)], EMULATED)

    def memory(self):
        """All that lies between its first number and its last, for the emulator."""
        ends = zip(self.array.shape, self.array.strides, strict=True)
        count = sum((n - 1) * s for n, s in ends) // 2 + 1
        return np.lib.stride_tricks.as_strided(self.array, (count,), (2,))

    def encoded(self):
        """Its 128 bytes, by the driver, as CuPy passes them to a kernel by value.

        Raises TensorMapError where there is no driver, or it refuses.
        """
        space = np.zeros(192, "uint8")  # the driver wants a multiple of 64
        first = -space.ctypes.data % 64
        status = _driver().cuTensorMapEncodeTiled(
            ctypes.c_void_p(space.ctypes.data + first),
            UINT16,  # copied as they are, whatever they mean
            4,
            ctypes.c_void_p(self.array.data.ptr),
            (ctypes.c_uint64 * 4)(*self.sizes),
            (ctypes.c_uint64 * 3)(*self.steps),
            (ctypes.c_uint32 * 4)(*self.box, 1, 1),
            (ctypes.c_uint32 * 4)(1, 1, 1, 1),
            0,  # no interleave
            SWIZZLE_128B,
            PROMOTION_256B,
            0,  # zeros outside
        )
        if status:
            raise TensorMapError(
                f"cuTensorMapEncodeTiled answers {status} for {self.array.shape}"
            )
        return space[first : first + 128].view("V128")


@functools.cache
def _driver():
    """The CUDA driver's library, by ctypes."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise TensorMapError(f"the CUDA driver is not installed: {error}") from None
