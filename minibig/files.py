"""Files that survive a crash, and named arrays in them as safetensors."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
from pathlib import Path

import numpy as np

from minibig.safetensors import DTYPES, FileError, code_of, header_of, read_header

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["FileError", "atomic_write", "load_arrays", "match_names", "save_arrays"]

_PARTIAL = ".minibig-partial"
_HASH = "minibig.sha256"
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


@contextlib.contextmanager
def atomic_write(path):
    """A binary file to write to; it becomes `path` whole, or not at all.

    The bytes go to a temporary file in the same folder, reach the disk, and only then
    take the name. An error inside the block is raised and leaves the old file as it
    was. Temporary files of writers that died are removed from the folder first.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: its folder does not exist; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    _remove_abandoned(path.parent)
    file = _open_partial(path)
    try:
        yield file
        file.flush()
        os.fsync(file.fileno())
        if fcntl is None:  # Windows renames closed files only
            file.close()
        os.replace(file.name, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk fails here a second time
            file.close()
        Path(file.name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # write and fsync do not say which file
        raise
    file.close()
    _sync_folder(path.parent)


def _remove_abandoned(folder):
    for path in folder.glob(f".*{_PARTIAL}"):
        # A living writer holds a lock (POSIX) or the open file (Windows). What cannot
        # be removed now is no reason to stop a save: hence suppress.
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            if fcntl is not None:
                file = stack.enter_context(open(path, "rb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _open_partial(path):
    while True:
        name = f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}"
        file = open(path.parent / name, "xb")  # noqa: SIM115, atomic_write closes it
        if fcntl is not None:
            with contextlib.suppress(OSError):  # some file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.path.exists(file.name):  # else taken for abandoned before it was locked
            return file
        file.close()


def _sync_folder(folder):
    if os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def save_arrays(path, arrays, metadata=None):
    """Nothing; writes named NumPy arrays to `path`, a .safetensors file, atomically.

    arrays: name → array of any layout and byte order, of floats, integers or booleans.
    metadata: str → str. A SHA-256 of all of it rides along, which `load_arrays`
    verifies. Raises FileError before anything is written.
    """
    path, metadata = Path(path), dict(metadata or {})
    if path.suffix != ".safetensors":
        raise FileError(f"{path}: arrays go into .safetensors files; change the name")
    if not isinstance(arrays, dict):
        raise FileError(f"{path}: arrays are a dict, not {type(arrays).__name__}")
    try:
        _check_metadata(metadata)
        for name, value in arrays.items():
            _check_array(name, value)
        arrays = {name: _plain(value) for name, value in arrays.items()}
        metadata[_HASH] = _digest(arrays, metadata)
        arrays = sorted(arrays.items(), key=lambda item: (-item[1].itemsize, item[0]))
        header = header_of(arrays, metadata)
    except FileError as error:
        raise FileError(f"{path}: {error}") from None
    with atomic_write(path) as file:
        file.write(header)
        for _, array in arrays:
            file.write(_bytes_of(array))


def load_arrays(path):
    """The arrays, by name, and the metadata (str → str) of a safetensors file.

    bfloat16 comes back as float32, everything else as it was stored; the arrays are
    writable. Any program's files are read; in those of `save_arrays` every byte is
    verified. Raises FileNotFoundError, and FileError for a file that is damaged or of
    another format, without allocating more than its own size (twice, for bfloat16).
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise FileError(
            f"{path}: a {path.suffix} file is a pickle, which can run any code when "
            "opened; take the .safetensors version of these weights, or convert them"
        )
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise FileError(f"{path} is not a file")
    with open(path, "rb") as file:
        try:
            metadata, entries = read_header(file, os.fstat(file.fileno()).st_size)
            arrays = {name: _read(file, *rest) for name, *rest in entries}
            stored = metadata.pop(_HASH, None)
            if stored is not None and stored != _digest(arrays, metadata):
                raise FileError("damaged: its contents do not match their SHA-256")
        except FileError as error:
            raise FileError(f"{path}: {error}") from None
    return arrays, metadata


def match_names(expected, found, *, what="the state"):
    """Nothing, where `found` has the names and shapes of `expected` (name → shape).

    Otherwise raises one ValueError that lists what is missing, what is unexpected and
    what has another shape; `what` begins its sentence.
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    wrong = [
        f"{name} is {tuple(found[name])}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    groups = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong}
    parts = [f"{label}: {_listed(names)}" for label, names in groups.items() if names]
    for tail in missing[:1]:
        prefixes = [n.removesuffix(tail) for n in unexpected if n.endswith("." + tail)]
        parts += [f"hint: its names begin with {prefix!r}" for prefix in prefixes[:1]]
    if parts:
        raise ValueError(f"{what} does not fit; {'; '.join(parts)}")


def _listed(names, most=10):
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join([*map(str, names[:most]), *more])


def _check_metadata(metadata):
    for key, value in metadata.items():
        if not _is_text(key) or not _is_text(value):
            raise FileError(f"metadata is text to text; got {key!r:.80}: {value!r:.80}")
    if _HASH in metadata:
        raise FileError(f"the metadata key {_HASH!r} is kept for the file's own hash")


def _check_array(name, value):
    if not _is_text(name) or name == "__metadata__":
        raise FileError(f"an array cannot have the name {name!r:.80}")
    if not isinstance(value, np.ndarray | np.generic):
        raise FileError(
            f"{name!r} is of type {type(value).__name__}, not a NumPy array; convert "
            "it first (a Tensor with .numpy())"
        )
    if code_of(value.dtype) is None:
        raise FileError(
            f"{name!r} is {value.dtype}; floats (16 to 64 bits), integers and booleans "
            "can be saved"
        )


def _is_text(value):
    """Whether this is a string that UTF-8 can hold (a lone surrogate it cannot)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(array):
    """`array` C-contiguous and little-endian, copied only where it is not."""
    # not ascontiguousarray, which gives a 0-d array an axis
    return np.asarray(array, dtype=DTYPES[code_of(array.dtype)], order="C")


def _bytes_of(array):
    return array.reshape(-1).view(np.uint8)


def _digest(arrays, metadata):
    """SHA-256 of metadata, names, dtypes, shapes and contents, in hexadecimal."""
    names = sorted(arrays)
    kinds = [[n, code_of(arrays[n].dtype), arrays[n].shape] for n in names]
    digest = hashlib.sha256(json.dumps([sorted(metadata.items()), kinds]).encode())
    for name in names:
        digest.update(_bytes_of(arrays[name]))
    return digest.hexdigest()


def _read(file, code, shape):
    if code != "BF16":
        array = np.empty(shape, DTYPES[code])
        _fill(file, array)
        return array
    bits = np.empty(shape, "<u4")  # a bfloat16 is the upper half of a float32
    flat, step = bits.reshape(-1), 1 << 16
    for start in range(0, flat.size, step):
        part = np.empty(min(step, flat.size - start), DTYPES[code])
        _fill(file, part)
        flat[start : start + step] = part
    flat <<= 16
    return bits.view("<f4")


def _fill(file, array):
    if file.readinto(_bytes_of(array)) != array.nbytes:
        raise FileError("cut short while it was read")
