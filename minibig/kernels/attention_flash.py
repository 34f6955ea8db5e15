"""Rung 3: flash attention in float32, from and to float32 or 16 bits."""

from .arrays import NUMBERS, ceil, contiguous
from .kernel import load
from .problem import WIDTHS

QUERIES, KEYS = 64, 32  # a forward tile


class Flash:
    """The rung "flash": memory linear in T and S, widths 32, 64, 80, 96 and 128."""

    name = "flash"
    readable = staticmethod(contiguous)

    def refusal(self, problem, chip):
        """Why this rung cannot do `problem` on `chip`; None if it can."""
        if problem.dtype.name not in NUMBERS:
            return f"reads {' or '.join(NUMBERS)}, not {problem.dtype}"
        if problem.width not in WIDTHS:
            return f"knows head widths {WIDTHS}, not {problem.width}"
        return None

    def forward(self, p, q, k, v, mask):
        """(out, what backward needs): the rows' log Σ e^score, (B, H, T)."""
        out, lse = p.empty(q.shape), p.empty(q.shape[:3], "float32")
        kernel = self._load("forward", p)["attention_flash_forward"]
        kernel(
            (ceil(p.queries, QUERIES), p.heads, p.batch), (128,),
            q, k, v, mask, out, lse, *p.sizes[:4], p.offset, p.scale,
            shared=_bytes(p, QUERIES + KEYS, QUERIES, KEYS),
        )  # fmt: skip
        return out, lse

    def backward(self, p, q, k, v, mask, out, lse, dout):
        """(dq, dk, dv)."""
        own, other = (64 if p.width <= 64 else 32), (32 if p.width <= 96 else 16)
        shared = _bytes(p, 2 * (own + other), own, other)
        delta = p.empty(lse.shape, "float32")
        dq, dk, dv = (p.empty(x.shape) for x in (q, k, v))
        kernels = self._load("backward", p)
        given = (q, k, v, mask, dout, lse, delta)
        settings = (*p.sizes[:4], p.offset, p.scale)
        kernels["attention_flash_delta"](
            (ceil(p.rows, 4),), (128,), out, dout, delta, p.rows
        )
        kernels["attention_flash_dq"](
            (ceil(p.queries, own), p.heads, p.batch), (128,),
            *given, dq, *settings, shared=shared,
        )  # fmt: skip
        kernels["attention_flash_dkv"](
            (ceil(p.keys, own), p.kv_heads, p.batch), (128,),
            *given, dk, dv, *settings, shared=shared,
        )  # fmt: skip
        return dq, dk, dv

    def _load(self, direction, p):
        number = NUMBERS[p.dtype.name]
        return load(f"attention_flash_{direction}.cu", number, p.width)


def _bytes(p, rows, tile_rows, tile_columns):
    """Shared memory: `rows` of the head's width, one tile of weights, 4 more a row."""
    return 4 * (rows * (p.width + 4) + tile_rows * (tile_columns + 4))
