"""IDX, the file format of MNIST and its relatives: one array of numbers.

Two zero bytes, one for the kind of number, one for how many axes; then the axes' sizes,
four bytes each, and the numbers, all with the highest byte first. The files mostly come
compressed by gzip.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..files import FileError

_KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20  # what a header promises is not taken up before it is there


def read_idx(path):
    """The array in an IDX file, compressed by gzip or not; this machine's byte order.

    Raises FileError for what is no IDX file, is cut off, goes on too long or is
    damaged, with the numbers; OSError where there is no file.
    """
    path = Path(path)
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    with gzip.open(path) if packed else path.open("rb") as file:
        try:
            dtype, shape = _header(path, file)
            count = math.prod(shape) * dtype.itemsize
            data = _read(file, count + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileError(f"{path} is cut off or damaged: {error}") from None
    if len(data) != count:
        found = f"{len(data):,}" if len(data) < count else "more"
        raise FileError(
            f"{path} says it holds {dtype.name} of shape {shape}, {count:,} bytes, but "
            f"there are {found}"
        )
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def _header(path, file):
    start = _read(file, 4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _KINDS:
        raise FileError(
            f"{path} is no IDX file: it begins with {start.hex(' ') or 'nothing'}, not "
            f"with 00 00, a kind of number ({', '.join(f'{k:02x}' for k in _KINDS)}) "
            "and the number of axes"
        )
    axes = start[3]
    if axes > 32:
        raise FileError(f"{path} says it has {axes} axes; an array has at most 32")
    sizes = _read(file, 4 * axes)
    if len(sizes) < 4 * axes:
        raise FileError(f"{path} is cut off within the sizes of its {axes} axes")
    return np.dtype(_KINDS[start[2]]), struct.unpack(f">{axes}I", sizes)


def _read(file, count):
    """`count` bytes, or those that there are."""
    data = bytearray()
    while len(data) < count and (piece := file.read(min(count - len(data), _PIECE))):
        data += piece
    return bytes(data)
