"""The last exercise of notebook 18: a kernel for one warp.

The mistakes are what a wrong kernel would compute, so that no compiler is needed.
"""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 18.product ---------------------------------------------------------------------


def _product(a, b):
    return (a.astype("float64") @ b.astype("float64")).astype("float32")


def _registers_wrong(a, b):
    blocks = a.reshape(2, 8, -1, 2, 8)  # half of the rows, step of k, half of the step
    return _product(blocks.transpose(3, 1, 2, 0, 4).reshape(a.shape), b)


def _last_step_alone(a, b):
    return _product(a[:, -16:], b[-16:])


def _first_step_again(a, b):
    steps = a.shape[1] // 16
    return _product(np.tile(a[:, :16], steps), np.tile(b[:16], (steps, 1)))


def _pairs_turned(a, b):
    return _product(a, b.reshape(-1, 2, 8)[:, ::-1].reshape(b.shape))


def _matrices(width, seed):
    rng = np.random.default_rng(seed)
    shapes = ((16, width), (width, 8))
    return tuple(rng.standard_normal(shape).astype("float16") for shape in shapes)


product = Exercise(
    name="18.product",
    task="A kernel for one warp: C (16, 8) = A (16, K) B (K, 8), by mma.m16n8k16.",
    solution=_product,
    cases=(
        Case("K = 32", lambda: _matrices(32, 0)),
        Case("K = 64", lambda: _matrices(64, 1)),
        Case("K = 16, one step", lambda: _matrices(16, 2), "edge"),
        Case(
            "large sums",
            lambda: (
                np.full((16, 4096), 1, "float16"),
                np.full((4096, 8), 1, "float16"),
            ),
            "edge",
        ),
    ),
    mistakes=(
        Mistake(
            _registers_wrong,
            "registers 1 and 2 of A are exchanged: a1 is eight rows down, a2 eight "
            "columns to the right.",
        ),
        Mistake(
            _last_step_alone,
            "only the last 16 of k count: the sums must be zero before the loop, not "
            "in each step.",
        ),
        Mistake(
            _first_step_again,
            "every step reads the first 16 of k again: add k to the addresses.",
        ),
        Mistake(
            _pairs_turned,
            "the halves of B's registers are exchanged: row 2t is in the lower bits.",
        ),
    ),
    hints=(
        "g = threadIdx.x / 4, t = threadIdx.x % 4, and the formulas for a, b and c.",
        "A pair of A: *(const unsigned*)(a + row * K + k + column), where column is "
        "2t + r / 2 * 8 and row g + r % 2 * 8.",
        "A pair of B: low.bits | (unsigned)high.bits << 16, from rows 2t + 8 r and the "
        "next, column g.",
    ),
    tolerance=1e-3,
)
