"""The gradient of an embedding's table, the same bits each time."""

from ..backend import array_module
from .arrays import ceil, contiguous, empty, number_of
from .kernel import load

CHUNK, BLOCK = 32, 128  # rows and columns of a block; as in embedding_backward.cu


def add_rows(ids, rows, count):
    """(count, C): row i is the sum of `rows` (N, C) whose id, of `ids` (N,), is i.

    None where no kernel serves them.
    """
    number = number_of(rows)
    if number is None:
        return None
    xp, width = array_module(rows), rows.shape[1]
    order = xp.argsort(ids, kind="stable")
    ids = contiguous(ids[order].astype("int64"))
    table = xp.zeros((count, width), rows.dtype)
    chunks = ceil(len(ids), CHUNK)
    launch = (chunks, ceil(width, BLOCK)), (BLOCK,)
    parts = empty(rows, (chunks, 2, width), "float32")
    kernels, sizes = load("embedding_backward.cu", number), (len(ids), width, count)
    kernels["embedding_backward"](
        *launch, ids, contiguous(order), contiguous(rows), table, parts, *sizes
    )
    kernels["embedding_joined"](*launch, ids, parts, table, *sizes)
    return table
