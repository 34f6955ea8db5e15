"""IDX files: every kind of number read, everything else refused with its reason."""

import gzip
import struct

import numpy as np
import pytest

from minibig.data import read_idx
from minibig.files import FileError

KINDS = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def idx(array, kind=8):
    array = np.asarray(array, KINDS[kind])
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def written(tmp_path):
    def write(data):
        path = tmp_path / "some-idx"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_kind_is_read(kind, pack, written):
    array = np.arange(24).reshape(2, 3, 4) - (0 if kind == 8 else 7)
    read = read_idx(written(pack(idx(array, kind))))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == np.dtype(KINDS[kind]).newbyteorder("=")
    assert read.flags.writeable and read.dtype.isnative


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,) * 32])
def test_odd_shapes_are_read(shape, written):
    assert read_idx(written(idx(np.zeros(shape)))).shape == shape


GOOD = idx(np.arange(60).reshape(3, 4, 5))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "begins with nothing"),
        (GOOD[:3], "is no IDX file"),
        (b"\x89PNG" + GOOD, "begins with 89 50 4e 47"),
        (b"\0\0\x0a\3" + GOOD[4:], "is no IDX file"),
        (b"\0\0\x08\xff" + GOOD[4:], "255 axes"),
        (GOOD[:11], "cut off within the sizes of its 3 axes"),
        (GOOD[:-1], "60 bytes, but there are 59"),
        (GOOD[:16], "60 bytes, but there are 0"),
        (GOOD + b"x", "but there are more"),
        (b"\0\0\x0e\3" + b"\xff" * 12, "but there are 0"),
    ],
)
def test_malformed_file_is_told_so(data, text, written):
    for pack in (bytes, gzip.compress):
        with pytest.raises(FileError, match=text):
            read_idx(written(pack(data)))


def test_damaged_compression_is_told_so(written):
    packed = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (50, 28))))
    for end in (2, 12, 100, len(packed) - 4):  # cut off anywhere
        with pytest.raises(FileError, match="cut off or damaged"):
            read_idx(written(packed[:end]))
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 16
    with pytest.raises(FileError, match=r"damaged|there are"):
        read_idx(written(bytes(flipped)))


def test_no_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")
