"""Positions as rotations: pairs of numbers turned by an angle that grows with place."""

import functools

from ..backend import array_module, by_rows
from .elementwise import widen


def rotary(x, *, frequencies, offset=0):
    """x (..., T, D), number i and number i + D/2 turned as a point in the plane.

    Row t turns by (t + `offset`) · `frequencies`[i] radians: D/2 of them, a tuple of
    floats. Su et al., arXiv 2104.09864, section 3.4.2, with the halves paired, as the
    published Llama weights need it, not neighbours. backward: dy turned back.
    """
    xp = array_module(x)
    wide = widen(x[:0]).dtype.name
    cos, sin = _turns(xp, x.shape[-2], frequencies, offset, wide)  # (T, D/2)

    def turned(x, sin):
        y = xp.empty_like(x)
        by_rows(lambda x, y: _turn(xp, x, y, cos, sin), x, y)
        return y

    return turned(x, sin), lambda dy: (turned(dy, -sin),)


def _turn(xp, x, y, cos, sin):
    half = x.shape[-1] // 2
    left, right = widen(x[..., :half]), widen(x[..., half:])
    part = left * cos
    part -= right * sin
    y[..., :half] = part
    xp.multiply(right, cos, out=part)
    part += left * sin
    y[..., half:] = part


@functools.lru_cache(maxsize=32)
def _turns(xp, length, frequencies, offset, dtype):
    """cos and sin (T, D/2) of all angles, from float64: far places need the digits."""
    angles = xp.arange(offset, offset + length, dtype="float64")[:, None]
    angles = angles * xp.asarray(frequencies, dtype="float64")
    return xp.cos(angles).astype(dtype), xp.sin(angles).astype(dtype)
