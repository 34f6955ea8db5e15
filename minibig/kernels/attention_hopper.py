"""Rung 5: flash attention by Hopper's wgmma and its copy engine (TMA)."""

from .arrays import ceil, contiguous
from .attention_mma import SIXTEEN_BITS, Mma
from .kernel import load
from .proof import doubt
from .tensor_map import COLUMNS, TensorMap, mappable

ROWS, THREADS = 128, 384  # that a block owns; of a block
OTHERS = 64  # rows of a tile of those that backward walks through
CHIP = 90  # the only one: newer chips do not load its code
BELOW = Mma()
ARCHITECTURE = "-arch=sm_90a"
BESIDE = 1024 + 3072  # bytes to begin at a multiple; for what is beside the tiles


class Hopper(Mma):
    """The rung "hopper": memory linear in T and S, widths 32, 64, 80, 96 and 128.

    Where it has never run, on a GPU that this process meets for the first time, it is
    first held against rung mma, and refuses where they disagree.

    The copy engine reads q, k, v and dout wherever their rows lie, such as side by side
    in one projection (B, T, 3, H, D). What the rung returns are views of (B, T, H, D):
    to lay the heads of a row side by side again nothing has to be copied.
    """

    name = "hopper"

    @staticmethod
    def readable(x):
        """x, copied if the copy engine cannot find its rows."""
        return x if mappable(x) else x.copy()

    def refusal(self, problem, chip):
        """Why this rung cannot do `problem` on `chip`; None if it can."""
        if chip != CHIP:
            return f"needs compute capability 9.0 (Hopper), not {chip / 10}"
        return super().refusal(problem, chip) or doubt(self, BELOW, problem, CHIP)

    def forward(self, p, q, k, v, mask):
        """(out, what backward needs): the rows' log Σ e^score, (B, H, T)."""
        out, lse = p.empty(_turned(q).shape), p.empty(q.shape[:3], "float32")
        self._load("forward", p)["attention_hopper_forward"](
            (ceil(p.queries, ROWS), p.heads, p.batch), (THREADS,),
            *map(TensorMap, (q, k, v)), mask, out, lse,
            *p.sizes[:4], p.offset, p.scale,
            shared=_bytes(p, 5 * ROWS),  # queries, twice keys and values
        )  # fmt: skip
        return _turned(out), lse

    def backward(self, p, q, k, v, mask, out, lse, dout):
        """(dq, dk, dv)."""
        tiles, settings = ceil(p.queries, ROWS), (*p.sizes[:4], p.offset, p.scale)
        numbers = p.empty((p.batch, p.heads, 2, tiles * ROWS), "float32")
        dq, dk, dv = (p.empty(_turned(x).shape) for x in (q, k, v))
        out, arrays = contiguous(_turned(out)), (q, k, v, dout)
        shared = _bytes(p, 2 * ROWS + 6 * OTHERS)
        kernels = self._load("backward", p)
        kernels["attention_hopper_dq"](
            (tiles, p.heads, p.batch), (THREADS,),
            *map(TensorMap, arrays, (ROWS, OTHERS, OTHERS, ROWS)),
            mask, out, lse, numbers, dq, *settings, shared=shared,
        )  # fmt: skip
        kernels["attention_hopper_dkv"](
            (ceil(p.keys, ROWS), p.kv_heads, p.batch), (THREADS,),
            *map(TensorMap, arrays, (OTHERS, ROWS, ROWS, OTHERS)),
            mask, numbers, dk, dv, *settings, shared=shared,
        )  # fmt: skip
        return tuple(map(_turned, (dq, dk, dv)))

    def _load(self, direction, p):
        file, number = f"attention_hopper_{direction}.cu", SIXTEEN_BITS[p.dtype.name]
        return load(file, number, p.width, options=(ARCHITECTURE,))


def _turned(x):
    """(B, H, T, D) as (B, T, H, D), and back: a view."""
    return x.swapaxes(1, 2)


def _bytes(p, rows):
    """Shared memory for `rows`, in blocks of 64 columns, and for what is beside."""
    return 2 * rows * ceil(p.width, COLUMNS) * COLUMNS + BESIDE
