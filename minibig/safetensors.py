"""The header of a safetensors file: how it is written, and read with distrust.

A file is 8 bytes of header length (little-endian), a JSON header that gives each
array's dtype, shape and place, and the arrays' bytes one after another without gaps
(https://github.com/huggingface/safetensors, "Format"). Files are read and written here
rather than through the `safetensors` package, which the tests hold this against: its
NumPy writer stores strided arrays wrongly and holds two more copies of all arrays, its
reader drops duplicate names in silence and cannot read bfloat16.
"""

import json
import math

import numpy as np

DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has none: its bits
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_MAX_DIMS = 64  # NumPy's limit
_MAX_HEADER = 100_000_000  # bytes, the format's own
_FIELDS = {"dtype", "shape", "data_offsets"}
_CODES = {dtype.str[1:]: code for code, dtype in DTYPES.items() if code != "BF16"}
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive (PyTorch's .pt or NumPy's .npz)",
    b"\x80": "a pickle (an old PyTorch file)",
    b"\x93NUMPY": "a .npy file",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"version ": "a Git LFS pointer; fetch the weights with `git lfs pull`",
    b"<": "a web page; the download went wrong",
}


class FileError(ValueError):
    """A file, or what should go into one, is not as it must be."""


def code_of(dtype):
    """The format's name of a NumPy dtype ("F32"), or None where it has none."""
    return _CODES.get(dtype.str[1:])


def header_of(arrays, metadata):
    """The bytes before the arrays' own, for (name, array) pairs in their order."""
    header, end = {"__metadata__": metadata}, 0
    for name, array in arrays:
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": code_of(array.dtype),
            "shape": array.shape,
            "data_offsets": (begin, end),
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    if len(text) > _MAX_HEADER:
        raise FileError(f"names and metadata take {len(text):,} bytes; 100 MB is most")
    return len(text).to_bytes(8, "little") + text


def read_header(file, size):
    """The metadata, and (name, dtype code, shape) of each array in the file's order.

    `file`, of `size` bytes, is left where the arrays begin. Nothing that the header
    claims is believed: the arrays it describes fill the file exactly, or FileError.
    """
    first = file.read(8)
    length = int.from_bytes(first, "little")
    if len(first) < 8:
        raise FileError(f"not safetensors, or cut short: {size} bytes are too few")
    if length > _MAX_HEADER:
        raise FileError(f"not safetensors but {_guess(first)}")
    if length > size - 8:
        raise FileError(f"cut short: {size} bytes, but a header of {length} bytes")
    text = file.read(length)
    if text[:1] != b"{":
        raise FileError("not safetensors: its header does not begin with a brace")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_table)
    except FileError:
        raise
    except (ValueError, RecursionError) as error:  # ValueError: bad UTF-8 as well
        raise FileError(f"its header is not valid JSON: {error}") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise FileError("its metadata is not a table")
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise FileError(f"its metadata {key!r:.80} is not text")
    entries = [_entry(name, fields) for name, fields in header.items()]
    return metadata, _in_order(entries, size - 8 - length)


def _guess(first):
    """What a file that begins with these 8 bytes is instead."""
    kinds = (kind for magic, kind in _OTHER_FORMATS.items() if first.startswith(magic))
    return next(kinds, "something else")


def _table(pairs):
    """A dict of the pairs, like json's own, which would drop a repeated name."""
    table = {}
    for name, value in pairs:
        if name in table:
            raise FileError(f"its header has {name!r:.80} twice")
        table[name] = value
    return table


def _entry(name, fields):
    """(name, dtype code, shape, offsets) after every check a single entry allows."""
    where = f"its array {name!r:.80}"
    if not isinstance(fields, dict) or set(fields) != _FIELDS:
        raise FileError(f"{where} needs a dtype, a shape, data_offsets and no more")
    code, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise FileError(
            f"{where} has the dtype {code!r:.40}, for which NumPy has no type; "
            "convert it to float32"
        )
    for label, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not _are_sizes(numbers):
            raise FileError(f"{where} has the {label} {numbers!r:.80}: no sizes")
    # Even where one axis is 0, NumPy limits the product of the others.
    if math.prod(n or 1 for n in shape) * DTYPES[code].itemsize >= 2**63:
        raise FileError(f"{where} has an impossible shape, {tuple(shape)}")
    need = math.prod(shape) * DTYPES[code].itemsize
    if len(offsets) != 2 or offsets[1] - offsets[0] != need:
        raise FileError(
            f"{where}, {code} of shape {tuple(shape)}, takes {need} bytes, "
            f"which its data_offsets {offsets} do not span"
        )
    return name, code, shape, offsets


def _are_sizes(numbers):
    """Whether this is a short list of numbers from 0 to 2**63 - 1."""
    if not isinstance(numbers, list) or len(numbers) > _MAX_DIMS:
        return False
    return all(type(n) is int and 0 <= n < 2**63 for n in numbers)  # True is no size


def _in_order(entries, size):
    """The entries in the order of their bytes, which must fill `size` exactly."""
    entries, end = sorted(entries, key=lambda entry: entry[3]), 0
    for name, _, _, (begin, stop) in entries:
        if begin != end:
            kind = "overlaps" if begin < end else "leaves a gap after"
            raise FileError(f"its array {name!r:.80} {kind} the array before it")
        end = stop
    if end != size:
        raise FileError(f"cut short or too long: {size} bytes for arrays of {end}")
    return [entry[:3] for entry in entries]
