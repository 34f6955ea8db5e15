"""One call of attention as the kernels see it: sizes, checked once for all rungs."""

import math
from dataclasses import dataclass

import numpy as np

from ..backend import array_module
from .arrays import empty_in

WIDTHS = (32, 64, 80, 96, 128)  # of heads, for which the flash rungs are compiled
MOST_BLOCKS = 65535  # CUDA's limit for a grid's second and third axis


@dataclass(frozen=True)
class Problem:
    """Sizes of q (B, H, T, D), k and v (B, G, S, D), who sees whom, and the scale.

    `offset` is what attention.cuh says: query t sees keys 0 … t + offset. It is S where
    there is no causal mask.
    """

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    width: int
    offset: int
    scale: float
    dtype: np.dtype
    xp: object

    @property
    def sizes(self):
        """As kernels take them: heads, kv_heads, T, S, D."""
        return self.heads, self.kv_heads, self.queries, self.keys, self.width

    @property
    def rows(self):
        """Rows of scores in all heads."""
        return self.batch * self.heads * self.queries

    def empty(self, shape, dtype=None):
        """An array to be filled; on the emulator NaN shows what was left out."""
        dtype = self.dtype if dtype is None else np.dtype(dtype)
        return empty_in(self.xp, shape, dtype)


def problem(q, k, v, mask, is_causal, offset, scale):
    """The Problem that the arrays pose.

    Raises ValueError or TypeError, with all shapes, where they do not fit together.
    """
    xp = array_module(q, k, v, mask)
    shapes = f"q {q.shape}, k {k.shape}, v {v.shape}"
    if not q.ndim == k.ndim == v.ndim == 4 or k.shape != v.shape:
        raise ValueError(
            f"attention: q (B, H, T, D), k and v (B, G, S, D) of one shape: {shapes}"
        )
    (batch, heads, queries, width), (_, kv_heads, keys, _) = q.shape, k.shape
    if (batch, width) != (k.shape[0], k.shape[3]) or not q.size or not k.size:
        raise ValueError(f"attention: one batch, one head width, no size 0: {shapes}")
    if heads % kv_heads:
        raise ValueError(f"attention: k's heads do not divide those of q: {shapes}")
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"attention: q {q.dtype}, k {k.dtype}, v {v.dtype}: one dtype")
    if mask is not None and (mask.shape != (batch, keys) or mask.dtype != bool):
        raise ValueError(
            f"attention: the mask is (B, S) = {(batch, keys)} booleans, True = may be "
            f"attended to, not {mask.shape} {mask.dtype}"
        )
    if max(batch, heads) > MOST_BLOCKS:
        raise ValueError(
            f"attention: at most {MOST_BLOCKS} heads or sequences: {shapes}"
        )
    offset = max(-queries, min(offset, keys)) if is_causal else keys
    scale = 1 / math.sqrt(width) if scale is None else float(scale)
    return Problem(
        batch, heads, kv_heads, queries, keys, width, offset, scale, q.dtype, xp
    )
