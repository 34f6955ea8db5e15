"""Kernels in which a block shares a row: how many rows, and threads for each."""

from .arrays import ceil

MOST_ROWS = 1 << 31  # of a grid are fewer: a block each
MOST_THREADS = 512  # for a row: 4 such blocks fill a multiprocessor


def threads_for(width):
    """Threads of a block that shares a row: each gets 4 numbers, or more."""
    return min(MOST_THREADS, 32 * ceil(width, 128))
