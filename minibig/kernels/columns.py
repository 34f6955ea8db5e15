"""Sums over the rows of a matrix: a bias's gradient, in two kernels."""

from .arrays import ceil, contiguous, empty, number_of
from .kernel import load
from .rows import MOST_ROWS

COLUMNS, THREADS = 32, 256  # that a block owns; of a block: as in columns.cuh
MOST_PARTS = 128  # of the rows, which are summed up by themselves first


def column_sums(x):
    """Σ over the rows of x (N, C): (C,), in its dtype; None if no kernel serves x."""
    number = number_of(x)
    if number is None or x.ndim != 2 or max(x.shape) >= MOST_ROWS:
        return None
    rows, width = x.shape
    parts, sums = empty(x, (parts_of(rows), width), "float32"), empty(x, (width,))
    kernels, blocks = load("column_sums.cu", number), ceil(width, COLUMNS)
    kernels["column_parts"](
        (blocks, len(parts)), (THREADS,), contiguous(x), parts, rows, width
    )
    kernels["column_sums"]((blocks,), (THREADS,), parts, sums, len(parts), width)
    return sums


def parts_of(rows):
    """In how many parts so many rows are summed up: one for 64 rows, 128 at most."""
    return min(MOST_PARTS, ceil(rows, 64))
