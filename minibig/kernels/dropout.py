"""Dropout's mask, drawn where it is used: bit for bit that of the CPU."""

from ..backend import array_module
from .arrays import ceil
from .kernel import load

DRAWS = 32  # of 64 bits, by each thread; as in dropout_mask.cu
BLOCK = 256
HALF = (1 << 64) - 1


def keep_mask(rng, count, least, like):
    """Booleans (count,), True where 16 random bits are at least `least`.

    `rng` is a fresh NumPy Generator (PCG64), whose `bytes` the CPU would take; they are
    made on the device of `like`. It stays as it is.
    """
    keep = array_module(like).empty(count, "bool")
    state = rng.bit_generator.state["state"]
    halves = [_signed(state[name] >> shift & HALF)
              for name in ("state", "inc") for shift in (64, 0)]  # fmt: skip
    if count:
        grid = ceil(count, 4 * DRAWS * BLOCK)
        load("dropout_mask.cu")["dropout_mask"](
            (grid,), (BLOCK,), keep, count, least, *halves
        )
    return keep


def _signed(bits):
    """64 bits as the whole number from -2^63 on that has them."""
    return bits - (1 << 64) if bits >> 63 else bits
