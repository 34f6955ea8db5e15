"""Rung 4: flash attention on tensor cores (mma.sync), from and to 16 bits."""

from .arrays import address_of, ceil, contiguous
from .kernel import load
from .problem import WIDTHS

SIXTEEN_BITS = {"float16": "float16", "bfloat16": "bfloat16"}
QUERIES, KEYS = 128, 64  # a tile of forward; dq owns as many queries
OLDEST = 80  # the first chip with cp.async, and with mma for bfloat16


class Mma:
    """The rung "mma": memory linear in T and S, widths 32, 64, 80, 96 and 128."""

    name = "mma"

    @staticmethod
    def readable(x):
        """x, contiguous, from a multiple of 16 bytes: asynchronous copies want that."""
        x = contiguous(x)
        return x.copy() if address_of(x) % 16 else x

    def refusal(self, problem, chip):
        """Why this rung cannot do `problem` on `chip`; None if it can."""
        if problem.dtype.name not in SIXTEEN_BITS:
            return f"reads {' or '.join(SIXTEEN_BITS)}, not {problem.dtype}"
        if problem.width not in WIDTHS:
            return f"knows head widths {WIDTHS}, not {problem.width}"
        if chip < OLDEST:
            return f"needs compute capability 8.0 (Ampere) or newer, not {chip / 10}"
        if problem.scale <= 0:  # the largest score is found before it is scaled
            return f"wants a scale above 0, not {problem.scale}"
        return None

    def forward(self, p, q, k, v, mask):
        """(out, what backward needs): the rows' log Σ e^score, (B, H, T)."""
        out, lse = p.empty(q.shape), p.empty(q.shape[:3], "float32")
        kernel = self._load("forward", p)["attention_mma_forward"]
        kernel(
            (ceil(p.queries, QUERIES), p.heads, p.batch), (128,),
            q, k, v, mask, out, lse, *p.sizes[:4], p.offset, p.scale,
            shared=_bytes(p, QUERIES + 2 * KEYS),
        )  # fmt: skip
        return out, lse

    def backward(self, p, q, k, v, mask, out, lse, dout):
        """(dq, dk, dv)."""
        delta = p.empty(lse.shape, "float32")
        dq, dk, dv = (p.empty(x.shape) for x in (q, k, v))
        kernels = self._load("backward", p)
        settings = (*p.sizes[:4], p.offset, p.scale)
        keys = 64 if p.width <= 64 else 32
        kernels["attention_mma_dq"](
            (ceil(p.queries, QUERIES), p.heads, p.batch), (128,),
            q, k, v, mask, out, dout, lse, delta, dq, *settings,
            shared=_bytes(p, 2 * QUERIES + 4 * keys),
        )  # fmt: skip
        own, queries = (128, 32) if p.width <= 64 else (64, 64)
        kernels["attention_mma_dkv"](
            (ceil(p.keys, own), p.kv_heads, p.batch), (128,),
            q, k, v, mask, dout, lse, delta, dk, dv, *settings,
            shared=_bytes(p, 2 * own + 4 * queries) + 4 * 4 * queries,
        )  # fmt: skip
        return dq, dk, dv

    def _load(self, direction, p):
        number = SIXTEEN_BITS[p.dtype.name]
        return load(f"attention_mma_{direction}.cu", number, p.width)


def _bytes(p, rows):
    """Shared memory for `rows` of the head's width in 16 bits."""
    return 2 * rows * p.width
