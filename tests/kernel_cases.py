"""Cases of attention for the kernels' tests, and what the answer is, in float64."""

import functools
import itertools
import random
from dataclasses import dataclass

import numpy as np

from minibig.ops.attention import scaled_dot_product_attention

LENGTHS = (1, 2, 31, 32, 33, 63, 65, 127, 129, 200)
FACTORS = {
    "queries": LENGTHS,
    "keys": LENGTHS,
    "width": (32, 64, 80, 96, 128),
    "sight": ("all", "causal", "after", "before"),  # before, after: an offset
    "heads": ((1, 1, 1), (2, 2, 2), (1, 4, 2), (2, 3, 1)),  # batch, of q, of k and v
    "padding": ("none", "some", "whole"),  # whole: one sequence has no key at all
}


@dataclass(frozen=True)
class Case:
    queries: int
    keys: int
    width: int
    sight: str = "all"
    heads: tuple = (1, 1, 1)
    padding: str = "none"
    dtype: str = "float32"

    def __str__(self):
        heads = "x".join(map(str, self.heads))
        sizes = f"T{self.queries} S{self.keys} D{self.width} {heads}"
        return f"{sizes} {self.sight} {self.padding} {self.dtype}"

    @property
    def settings(self):
        """mask, is_causal and offset; "far": the first 140 queries see no key."""
        offset = {"after": max(self.keys - self.queries, 3), "before": -2, "far": -140}
        mask = None
        if self.padding != "none":
            rng = np.random.default_rng(self.keys)
            mask = rng.random((self.heads[0], self.keys)) < 0.7
            mask[0] &= self.padding == "some"
        return {
            "mask": mask,
            "is_causal": self.sight != "all",
            "offset": offset.get(self.sight, 0),
        }


def pairwise(count):
    """`count` cases in which as many pairs of values as possible meet: greedily."""
    draw, met, cases = random.Random(0), set(), []
    for _ in range(count):
        candidates = [
            tuple(draw.choice(values) for values in FACTORS.values())
            for _ in range(400)
        ]
        best = max(candidates, key=lambda values: len(_pairs(values) - met))
        met |= _pairs(best)
        cases.append(Case(*best))
    return cases


def _pairs(values):
    return set(itertools.combinations(enumerate(values), 2))


def whole_grid():
    """All lengths, widths and sights; heads and padding take turns."""
    names = ("queries", "keys", "width", "sight")
    heads = itertools.cycle(itertools.product(FACTORS["heads"], FACTORS["padding"]))
    grid = itertools.product(*(FACTORS[name] for name in names))
    return [Case(*values, *more) for values, more in zip(grid, heads, strict=False)]


def to_bfloat16(x):
    """The nearest bfloat16 of float32 numbers as its bits, uint16: ties to even."""
    bits = np.ascontiguousarray(x, "float32").view("uint32")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("uint16")


def from_bfloat16(bits):
    return (bits.astype("uint32") << 16).view("float32")


@functools.lru_cache(maxsize=64)
def inputs(case):
    """q, k, v and dout in the case's dtype (bfloat16 as its bits)."""
    rng = np.random.default_rng(case.queries * 1000 + case.keys)
    batch, heads, kv_heads = case.heads
    query = (batch, heads, case.queries, case.width)
    key = (batch, kv_heads, case.keys, case.width)
    arrays = [rng.standard_normal(s, "float32") for s in (query, key, key, query)]
    if case.dtype == "bfloat16":
        return [to_bfloat16(x) for x in arrays]
    return [x.astype(case.dtype) for x in arrays]


@functools.lru_cache(maxsize=64)
def answer(case):
    """out, dq, dk, dv in float64, by the plain-array op."""
    arrays = inputs(case)
    if case.dtype == "bfloat16":
        arrays = [from_bfloat16(x) for x in arrays]
    q, k, v, dout = (x.astype("float64") for x in arrays)
    batch, heads, kv_heads = case.heads
    group, settings = heads // kv_heads, case.settings
    if settings["mask"] is not None:
        settings["mask"] = settings["mask"][:, None, None]
    repeated = (np.repeat(x, group, 1) for x in (k, v))
    out, backward = scaled_dot_product_attention(q, *repeated, **settings)
    dq, *rest, _ = backward(dout)
    shape = (batch, kv_heads, group, case.keys, case.width)
    return out, dq, *(x.reshape(shape).sum(2) for x in rest)
