"""Tensor maps: what Hopper's copy engine has to know of an array (`tma.cuh`)."""

import ctypes
import functools
import sys

import numpy as np

COLUMNS = 64  # of 2 bytes, which a copy brings
EMULATED = [("array", "u8"), ("sizes", "i8", 3), ("box", "i8", 2)]  # emulator/tma.h
# CUDA's names for what cuTensorMapEncodeTiled is told, cuda.h
UINT16, SWIZZLE_128B, PROMOTION_256B = 1, 3, 3


class TensorMapError(RuntimeError):
    """The CUDA driver makes no tensor map; the message has its reason."""


class TensorMap:
    """A kernel's argument: an array (…, rows, columns) of 16 bits, in boxes.

    One copy brings a box of 64 columns and `rows` rows. All axes in front are one, of
    matrices. The array starts at a multiple of 16 bytes.
    Raises ValueError for other numbers, gaps, or rows of no whole 16 bytes.
    """

    def __init__(self, array, rows=128):
        gaps = not array.flags.c_contiguous
        if array.dtype.itemsize != 2 or gaps or array.shape[-1] % 8:
            raise ValueError(
                f"TensorMap: wants 16 bits, no gaps, rows of whole 16 bytes, not "
                f"{array.shape} {array.dtype}, strides {array.strides}"
            )
        self.array, self.box = array, (COLUMNS, rows)
        height, width = array.shape[-2:]
        self.sizes = width, height, array.size // (height * width)

    def emulated(self):
        """As the emulator reads it, without the address: the launch knows it."""
        return np.array([(0, self.sizes, self.box)], EMULATED)

    def encoded(self):
        """Its 128 bytes, by the driver, as CuPy passes them to a kernel by value.

        Raises TensorMapError where there is no driver, or it refuses.
        """
        space = np.zeros(192, "uint8")  # the driver wants a multiple of 64
        first = -space.ctypes.data % 64
        columns, rows, matrices = self.sizes
        status = _driver().cuTensorMapEncodeTiled(
            ctypes.c_void_p(space.ctypes.data + first),
            UINT16,  # copied as they are, whatever they mean
            3,
            ctypes.c_void_p(self.array.data.ptr),
            (ctypes.c_uint64 * 3)(columns, rows, matrices),
            (ctypes.c_uint64 * 2)(2 * columns, 2 * columns * rows),
            (ctypes.c_uint32 * 3)(*self.box, 1),
            (ctypes.c_uint32 * 3)(1, 1, 1),
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
