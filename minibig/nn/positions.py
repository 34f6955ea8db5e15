"""How a model knows places: waves added to the tokens, or turned queries and keys.

Taught by notebook 08.
"""

import numpy as np

from .. import checks
from ..creation import tensor
from ..ops import rotary as ops
from ..tensor import Tensor, apply
from .module import Module


def sinusoidal_positions(length, width, *, offset=0, dtype="float32", device=None):
    """A row for each place from `offset` on: (length, width), width even.

    Column 2i is sin(place / 10000^(2i/width)), column 2i + 1 its cosine (arXiv
    1706.03762, section 3.5).
    """
    checks.whole("sinusoidal_positions: length", length, 1)
    _even("sinusoidal_positions", width)
    places = np.arange(offset, offset + length)[:, None]
    angles = places * np.asarray(rotary_frequencies(width))  # (length, width / 2)
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=2)
    return tensor(waves.reshape(length, width), dtype=dtype, device=device)


def rotary_frequencies(width, base=10000.0):
    """Radians a place, one for each pair of numbers: base^(-2i/width), i < width / 2.

    The first pair turns by 1 radian a place, the last goes round once in almost 2π base
    places (arXiv 2104.09864, equation 15).
    """
    _even("rotary_frequencies", width)
    checks.number("rotary_frequencies: base", base, 0, without=0)
    return tuple(base ** (-2 * i / width) for i in range(width // 2))


def rotary(x, frequencies, offset=0):
    """x (..., T, D), each row turned according to its place; same shape.

    Numbers i and i + D/2 are a point in the plane that turns by (t + offset) ·
    frequencies[i] radians in row t (arXiv 2104.09864). The product of a query and a key
    then depends on how far they are apart, not on where they stand. `offset` is the
    number of rows a KV cache holds.
    """
    checks.kind("rotary: x", x, Tensor)
    checks.whole("rotary: offset", offset, 0)
    if not x.is_floating_point():
        raise TypeError(f"rotary turns floating-point numbers, not {x.dtype}")
    if x.ndim < 2 or x.shape[-1] != 2 * len(frequencies):
        raise ValueError(
            f"rotary: {len(frequencies)} frequencies turn rows of "
            f"{2 * len(frequencies)} numbers, (..., T, D), not {x.shape}"
        )
    frequencies = tuple(float(f) for f in frequencies)
    return apply(ops.rotary, x, frequencies=frequencies, offset=offset)


class RotaryPositions(Module):
    """Queries or keys turned according to their place: (B, H, T, D), same shape.

    See `rotary`. `base` sets the slowest turn; `frequencies` replaces those of the
    paper, as models stretched to longer texts do.
    """

    def __init__(self, width, base=10000.0, frequencies=None):
        self.width = width
        self.frequencies = frequencies or rotary_frequencies(width, base)

    def forward(self, x, offset=0):
        return rotary(x, self.frequencies, offset)

    def extra_repr(self):
        return f"{self.width}"


def _even(name, width):
    if checks.whole(f"{name}: width", width, 1) % 2:
        raise ValueError(f"{name}: the width must be even, not {width}")
