"""The exercises of notebook 16: three kernels and bank conflicts; occupancy aside.

The solutions are NumPy's, so that they hold where no kernel can run; the mistakes are
what a kernel with that mistake gives, or raises.
"""

import numpy as np

from ...kernels.emulator import EmulatorError
from ..exercise import Case, Exercise, Mistake


def _numbers(*shape, seed=0):
    rng = np.random.default_rng([16, seed])
    return rng.standard_normal(shape).astype("float32")


def _whole(*shape, seed=0):
    return np.random.default_rng([16, seed]).integers(-9, 10, shape).astype("float32")


# ---- 16.axpy: 2 blocks of 64 threads ------------------------------------------------

GRID = 128  # threads


def _axpy(a, x, y):
    return y + a * x


def _times(count):
    """y + a x `count(i, n)` times at place i."""

    def axpy(a, x, y):
        times = count(np.arange(len(x)), len(x))
        return (y + a * x * times).astype("float32")

    return axpy


def _outside(*inputs):
    raise IndexError("touches y outside")


def _unguarded(a, x, y):
    if len(x) < GRID:
        raise IndexError("touches y outside")
    return _times(lambda i, n: i < GRID)(a, x, y)


def _step(n, seed=0):
    return lambda: (0.5, _whole(n, seed=seed), _whole(n, seed=seed + 1))


axpy = Exercise(
    name="16.axpy",
    task="A kernel that adds a x to y, right for any length.",
    solution=_axpy,
    cases=(
        Case("500 numbers", _step(500)),
        Case("128, one a thread", _step(128, 2)),
        Case("132, four too many", _step(132, 4), "edge"),
        Case("4 numbers", _step(4, 6), "edge"),
    ),
    mistakes=(
        Mistake(
            _times(lambda i, n: i < GRID),
            "only the first 128 numbers change: each thread does one. Let it go on, "
            "from i to i plus the number of threads in the grid.",
        ),
        Mistake(
            _unguarded,
            "each thread does one number, whether it exists or not. A loop "
            "`for (…; i < n; …)` does several and guards the end.",
        ),
        Mistake(
            _times(lambda i, n: 1 + (i >= 64)),
            "the second block does again what the first has done: the stride of the "
            "loop is the whole grid, gridDim.x * blockDim.x, not blockDim.x.",
        ),
        Mistake(
            _times(lambda i, n: 2 * (i % GRID < 64)),
            "both blocks do the same numbers, and nobody does the others: begin at "
            "blockIdx.x * blockDim.x + threadIdx.x.",
        ),
        Mistake(
            _outside,
            "some thread always leaves the array: the last number is n - 1, so the "
            "condition is i < n.",
        ),
    ),
    hints=(
        "Each thread does every 128th number, beginning with its own index.",
        "A for loop: from the thread's index, while i < n, in steps of all threads.",
        "for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; "
        "i += gridDim.x * blockDim.x) y[i] += a * x[i];",
    ),
)


# ---- 16.scan ------------------------------------------------------------------------


def _scan(x):
    return x.cumsum(1)


def _steps(x, guarded, last=16):
    """As the lanes do it; `guarded`: a lane without a neighbour adds nothing."""
    v, step = x.copy(), 1
    while step <= last:
        lower = np.concatenate([v[:, :step], v[:, :-step]], axis=1)
        lower[:, :step] *= not guarded
        v, step = v + lower, 2 * step
    return v


def _waiting(x):
    raise EmulatorError("waits for threads that never come")


scan = Exercise(
    name="16.scan",
    task="A kernel that gives each row of 32 its running sums, by shuffles.",
    solution=_scan,
    cases=(
        Case("32 ones", lambda: (np.ones((1, 32), "float32"),)),
        Case("3 rows", lambda: (_whole(3, 32),)),
        Case("a 1 at place 0", lambda: (np.eye(1, 32, dtype="float32"),), "edge"),
        Case("a 1 at place 31", lambda: (np.eye(1, 32, 31, "float32"),), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x: _steps(x, guarded=False),
            "the lowest lanes add themselves: where there is no lane `step` lower, "
            "the shuffle gives back the lane's own number. Add only if lane >= step.",
        ),
        Mistake(
            lambda x: _scan(x) - x,
            "your sums end before each place. The number at the place belongs to it.",
        ),
        Mistake(
            lambda x: np.broadcast_to(x.sum(1, keepdims=True), x.shape),
            "every lane has the sum of the whole row, as by __shfl_xor_sync. A running "
            "sum takes from lower lanes alone: __shfl_up_sync.",
        ),
        Mistake(
            lambda x: x[:, ::-1].cumsum(1)[:, ::-1],
            "you add up what comes after each place. Up, in __shfl_up_sync, means that "
            "numbers move to higher lanes.",
        ),
        Mistake(
            lambda x: _steps(x, guarded=True, last=8),
            "no sum has more than 16 numbers: a step of 16 is missing, the loop must "
            "run while step < 32.",
        ),
        Mistake(
            _waiting,
            "some lanes do not come to the shuffle. All 32 must: shuffle first, and "
            "let the if decide only whether the number is added.",
        ),
    ),
    hints=(
        "After a step of 1 each lane holds a sum of two, after 2 of four, and so on.",
        "All lanes shuffle; only those with lane >= step add what they got.",
        "for (int step = 1; step < 32; step *= 2) { const float lower = "
        "__shfl_up_sync(0xffffffff, v, step); if (lane >= step) v += lower; }",
    ),
)


# ---- 16.bank_conflicts --------------------------------------------------------------


def _per_access(count):
    return lambda words: np.array([count(row) for row in words])


def _turns(row):
    return np.bincount(np.unique(row) % 32).max()


LANES = np.arange(32)

bank_conflicts = Exercise(
    name="16.bank_conflicts",
    task="How many turns each access to shared memory takes, by its 32 words.",
    solution=_per_access(_turns),
    cases=(
        Case("rows of 32 and of 33", lambda: (np.stack([32 * LANES, 33 * LANES + 5]),)),
        Case("strides 1 to 8", lambda: (np.arange(1, 9)[:, None] * LANES,)),
        Case("drawn by chance", lambda: (_whole(4, 32).astype(int) * 7 + 63,)),
        Case("all the same word", lambda: (np.full((1, 32), 7),), "edge"),
        Case(
            "two words, one bank", lambda: (np.where(LANES < 9, 3, 35)[None],), "edge"
        ),
    ),
    mistakes=(
        Mistake(
            _per_access(lambda row: np.bincount(row % 32).max()),
            "you counted lanes. Lanes that want the same word get it in one turn: "
            "count different words, np.unique first.",
        ),
        Mistake(
            _per_access(lambda row: len(np.unique(row % 32))),
            "you counted the banks in use. They work side by side; what takes time is "
            "the one with the most words.",
        ),
        Mistake(
            _per_access(lambda row: _turns(row // 4)),
            "you divided by 4, but these are numbers of words, not addresses of bytes.",
        ),
        Mistake(
            _per_access(lambda row: len(np.unique(row // 8))),
            "these are sectors, which are the rule of memory outside of the chip. "
            "Shared memory has banks: word w lies in bank w % 32.",
        ),
    ),
    hints=(
        "For each row: which different words, and in which banks do they lie?",
        "np.unique(row) % 32 are the banks of the different words.",
        "np.bincount of these banks counts the words in each; take the largest count.",
    ),
)


# ---- 16.rms_norm --------------------------------------------------------------------


def _rms(x, weight, eps, *, root=np.sqrt, mean=np.mean, centre=0.0):
    wide = x.astype("float64")
    wide = wide - centre * wide.mean(1, keepdims=True)
    y = wide / root(mean(wide**2, axis=1, keepdims=True) + eps) * weight
    return y.astype("float32")


def _rms_norm(x, weight, eps):
    return _rms(x, weight, eps)


def _first_row(x, weight, eps):
    y = np.zeros_like(x)
    y[0] = _rms(x, weight, eps)[0]
    return y


def _own_numbers(x, weight, eps):
    """Each thread knows its own numbers alone."""
    y = np.empty_like(x)
    for thread in range(min(128, x.shape[1])):
        mine = x[:, thread::128].astype("float64")
        squares = (mine**2).sum(1, keepdims=True)
        y[:, thread::128] = mine / np.sqrt(squares / x.shape[1] + eps)
    return y * weight


def _rows(rows, width, size=1.0, seed=0):
    weight = 1 + 0.1 * _numbers(width, seed=seed + 1)
    return lambda: (size * (_numbers(rows, width, seed=seed) + 0.5), weight, 1e-3)


rms_norm = Exercise(
    name="16.rms_norm",
    task="A kernel for x w / √(E(x²) + eps), each row by a block of 128 threads.",
    solution=_rms_norm,
    cases=(
        Case("4 rows of 256", _rows(4, 256)),
        Case("3 rows of 300", _rows(3, 300, seed=2)),
        Case("2 rows of 5", _rows(2, 5, seed=4), "edge"),
        Case("small numbers", _rows(2, 100, np.float32(0.01), 6), "edge"),
        Case("one column", _rows(2, 1, seed=8), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x, w, eps: _rms(x, w, eps, mean=np.sum),
            "the sum of the squares is not divided by the width: E is a mean.",
        ),
        Mistake(
            lambda x, w, eps: _rms(x, w, 0.0),
            "eps is missing: it belongs under the root, added to the mean.",
        ),
        Mistake(
            lambda x, w, eps: _rms(x, w, eps, root=lambda m: m),
            "you divide by the mean of the squares; it is the root of that.",
        ),
        Mistake(
            lambda x, w, eps: _rms(x, w, eps, centre=1.0),
            "you took the mean off first: that is a layer norm. RMS norm does not.",
        ),
        Mistake(
            lambda x, w, eps: _rms(x, np.ones_like(w), eps),
            "the weight is missing: the result is multiplied by weight[i].",
        ),
        Mistake(
            _first_row,
            "all blocks work on the first row: block r's row begins at r times the "
            "width.",
        ),
        Mistake(
            _own_numbers,
            "each thread uses the squares of its own numbers. They must be added up "
            "over the block: block_sum(squares).",
        ),
    ),
    hints=(
        "As the fused softmax: read the row once into shared memory, and add up.",
        "Each thread adds the squares of its numbers, block_sum adds up the threads.",
        "1 / sqrtf(block_sum(squares) / width + eps) is the factor; then y = row[i] * "
        "factor * weight[i].",
    ),
    tolerance=1e-5,
)
