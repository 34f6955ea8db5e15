"""Short, stable hashes that say which data a number was computed from."""

import hashlib

import numpy as np


def fingerprint(*parts):
    """The first 16 hexadecimal digits of a SHA-256 over strings, bytes and arrays.

    Each part is preceded by its length, so moving text from one part to the next
    changes the hash. An array counts by value: dtype, shape and elements in C order;
    the machine's byte order plays no role.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            data = np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<"))
            digest.update(f"{data.dtype.str} {part.shape} ".encode())
            part = data.tobytes()
        elif isinstance(part, str):
            part = part.encode("utf-8", "surrogatepass")
        digest.update(f"{len(part)}:".encode())
        digest.update(part)
    return digest.hexdigest()[:16]
