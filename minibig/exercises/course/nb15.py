"""The exercises of notebook 15: streams, the roofline, clipping, a memory pool."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 15.two_streams -----------------------------------------------------------------


def _two_streams(copies, kernels):
    copied = done = 0
    for copy, kernel in zip(copies, kernels, strict=True):
        copied += copy
        done = max(done, copied) + kernel
    return done


def _never_waits_for_copies(copies, kernels):
    return max(sum(copies), sum(kernels))


def _waits_for_copies_alone(copies, kernels):
    return max(np.cumsum(copies) + np.array(kernels))


def _waits_for_all_copies(copies, kernels):
    return sum(copies) + sum(kernels)


def _waits_for_the_first_alone(copies, kernels):
    return copies[0] + sum(kernels)


two_streams = Exercise(
    name="15.two_streams",
    task="When the last kernel ends: copies in one stream, kernels in another.",
    solution=_two_streams,
    cases=(
        Case("2 and 10, three times", lambda: ([2, 2, 2], [10, 10, 10])),
        Case("slow copies", lambda: ([10, 10, 10], [2, 2, 2])),
        Case("now one, now the other", lambda: ([1, 9, 1, 9], [5, 1, 8, 2])),
        Case("one batch", lambda: ([3], [4]), "edge"),
        Case("nothing to copy", lambda: ([0, 0], [4, 5]), "edge"),
    ),
    mistakes=(
        Mistake(
            _waits_for_all_copies,
            "that is the time of one stream, in which everything follows everything. "
            "Copy i + 1 may run beside kernel i.",
        ),
        Mistake(
            _never_waits_for_copies,
            "your kernels do not wait for their copies: kernel i needs batch i, so it "
            "cannot begin before copy i is done.",
        ),
        Mistake(
            _waits_for_copies_alone,
            "your kernels run at the same time. They share a stream: kernel i begins "
            "when kernel i - 1 has ended, too.",
        ),
        Mistake(
            _waits_for_the_first_alone,
            "only your first kernel waits for its copy. Where copies are slow, every "
            "kernel must.",
        ),
    ),
    hints=(
        "Keep two clocks: when the copies so far are done, and when the kernels are.",
        "Copies never wait: copy i is done at the sum of the first i times.",
        "A kernel begins at max(end of the kernel before, end of its copy).",
    ),
)


# ---- 15.product_time ----------------------------------------------------------------


def _work(m, k, n):
    return 2 * m * k * n, m * k + k * n + m * n


def _product_time(m, k, n, itemsize, peak, bandwidth):
    flops, numbers = _work(m, k, n)
    return 1e6 * max(flops / peak, itemsize * numbers / bandwidth)


def _seconds(*settings):
    return _product_time(*settings) / 1e6


def _one_operation(m, k, n, itemsize, peak, bandwidth):
    return _product_time(m, k, n, itemsize, 2 * peak, bandwidth)


def _added(m, k, n, itemsize, peak, bandwidth):
    flops, numbers = _work(m, k, n)
    return 1e6 * (flops / peak + itemsize * numbers / bandwidth)


def _smaller(m, k, n, itemsize, peak, bandwidth):
    flops, numbers = _work(m, k, n)
    return 1e6 * min(flops / peak, itemsize * numbers / bandwidth)


def _numbers_for_bytes(m, k, n, itemsize, peak, bandwidth):
    return _product_time(m, k, n, 1, peak, bandwidth)


def _result_stays(m, k, n, itemsize, peak, bandwidth):
    flops, numbers = _work(m, k, n)
    return 1e6 * max(flops / peak, itemsize * (numbers - m * n) / bandwidth)


def _read_for_each(m, k, n, itemsize, peak, bandwidth):
    numbers = 2 * m * k * n + m * n  # each factor anew for each product
    return 1e6 * max(2 * m * k * n / peak, itemsize * numbers / bandwidth)


product_time = Exercise(
    name="15.product_time",
    task="The least time of a product of matrices on a chip, in microseconds.",
    solution=_product_time,
    cases=(
        Case("a T4, a linear layer", lambda: (8192, 768, 3072, 4, 8.1e12, 320e9)),
        Case("a T4, a batch of 4", lambda: (4, 768, 3072, 4, 8.1e12, 320e9)),
        Case("an H200, 16 bits", lambda: (1024, 64, 1024, 2, 989e12, 4.8e12)),
        Case("1 × 1", lambda: (1, 1, 1, 4, 1e9, 1e9), "edge"),
    ),
    mistakes=(
        Mistake(
            _one_operation,
            "you counted one operation where there are two: each of the M K N products "
            "is multiplied and added.",
        ),
        Mistake(
            _added,
            "you added the two times. A chip moves and computes at once: the longer "
            "of the two decides.",
        ),
        Mistake(
            _smaller,
            "you took the shorter time. Both must be done: the longer one decides.",
        ),
        Mistake(
            _numbers_for_bytes,
            "you counted numbers where bytes are asked for: multiply by itemsize.",
        ),
        Mistake(_seconds, "your answer is in seconds: a microsecond is 1e-6 of one."),
        Mistake(
            _result_stays,
            "the result must be written, too: M N numbers more.",
        ),
        Mistake(
            _read_for_each,
            "you read both factors anew for each multiplication. At best each array "
            "crosses once, and is kept at hand while it is needed.",
        ),
    ),
    hints=(
        "Two times: the arithmetic's and the memory's.",
        "2 M K N operations; M K + K N + M N numbers of itemsize bytes.",
        "The larger of operations / peak and bytes / bandwidth, times 1e6.",
    ),
)


# ---- 15.clip ------------------------------------------------------------------------


class WaitError(RuntimeError):
    """Somebody looked at a number for which the CPU would have to wait."""


def _look(self, *args):
    raise WaitError("this look at a number would make the CPU wait for the GPU")


class Watched(np.ndarray):
    """An array in which nobody may look while the function runs."""

    __bool__ = __float__ = __int__ = __index__ = item = tolist = _look

    def __getitem__(self, index):
        if getattr(index, "dtype", None) == "bool":
            _look(self)
        return super().__getitem__(index)


def _watched(array):
    return np.array(array, np.float64).view(Watched)


def _norm(g):
    return np.sqrt((g * g).sum())


def _clip(g, max_norm):
    return g * (max_norm / np.maximum(_norm(g), max_norm))


def _always_scaled(g, max_norm):
    with np.errstate(invalid="ignore"):
        return g * (max_norm / _norm(g))


def _with_if(g, max_norm):
    norm = _norm(g)
    return g * (max_norm / norm) if norm > max_norm else g


def _each_number(g, max_norm):
    return np.clip(g, -max_norm, max_norm)


def _squared(g, max_norm):
    return g * (max_norm / np.maximum((g * g).sum(), max_norm))


def _nan_at_zero(g, max_norm):
    with np.errstate(invalid="ignore", divide="ignore"):
        return g * np.where(_norm(g) > 0, np.minimum(1, max_norm / _norm(g)), np.nan)


def _grown(g, max_norm):
    return g * (np.maximum(_norm(g), max_norm) / max_norm)


clip = Exercise(
    name="15.clip",
    task="A gradient with a norm of at most max_norm, without a look at its numbers.",
    solution=_clip,
    cases=(
        Case("(3, 4) to norm 1", lambda: (_watched([3, 4]), 1.0)),
        Case("a table, norm 2", lambda: (_watched(np.arange(6).reshape(2, 3)), 2.0)),
        Case("already small", lambda: (_watched([0.3, 0.4]), 1.0)),
        Case("zeros", lambda: (_watched([0, 0, 0]), 1.0), "edge"),
        Case("one number", lambda: (_watched([-5]), 2.0), "edge"),
    ),
    mistakes=(
        Mistake(
            _with_if,
            "you looked: an `if`, float() or item() must wait for the number. Compute "
            "a factor that is 1 for small gradients by itself.",
        ),
        Mistake(
            _always_scaled,
            "you scale small gradients up, too: the factor must not be above 1.",
        ),
        Mistake(
            _each_number,
            "you cut every number by itself. That turns the gradient; it should keep "
            "its direction and lose length.",
        ),
        Mistake(_squared, "you divided by the sum of squares; the norm is its root."),
        Mistake(
            _nan_at_zero,
            "a gradient of zeros gives 0 divided by 0. Make sure that what you divide "
            "by is never 0: the larger of norm and max_norm is not.",
        ),
        Mistake(
            _grown,
            "your factor is upside down: large gradients must become smaller.",
        ),
    ),
    hints=(
        "The factor is 1 or max_norm / norm, whichever is smaller. Which function of "
        "NumPy takes the smaller of two without asking?",
        "np.minimum(1, max_norm / norm) is right but for a norm of 0.",
        "max_norm / np.maximum(norm, max_norm) is 1 for all small norms, 0 included.",
    ),
)


# ---- 15.best_fit --------------------------------------------------------------------


def _pool(events, choose, unit=512):
    """The pool in which `choose` takes a block from the sizes that are large enough."""
    free, blocks, asked, held = [], [0], 0, 0
    for event in events:
        if event < 0:
            free.append(blocks[-event])
            continue
        need = -(-event // unit) * unit
        fitting = [size for size in free if size >= need]
        size = choose(fitting, need) if fitting else None
        if size is None:
            size, asked, held = need, asked + 1, held + need
        else:
            free.remove(size)
        blocks.append(size)
    return asked, held


def _smallest(sizes, need):
    return min(sizes)


def _best_fit(events):
    return _pool(events, _smallest)


def _in_use(events):
    sizes = [-(-n // 512) * 512 for n in events if n >= 0]
    return _best_fit(events)[0], sum(sizes) - sum(
        sizes[-n - 1] for n in events if n < 0
    )


best_fit = Exercise(
    name="15.best_fit",
    task="Requests to the driver, and bytes held, by a pool that takes the best fit.",
    solution=_best_fit,
    cases=(
        Case("as in the text", lambda: ([1000, 2000, -1, 900],)),
        Case("a smaller array", lambda: ([2000, -1, 300, -2, 1900],)),
        Case("two that fit", lambda: ([3000, 1000, -1, -2, 900, 2900],)),
        Case("three that fit", lambda: ([1500, 900, 3000, -1, -2, -3, 800, 2900],)),
        Case("large ones last", lambda: ([600, 3000, -2, -1, 500, 2600, 5000],)),
        Case("nothing let go", lambda: ([512, 513, 1],), "edge"),
        Case("no events", lambda: ([],), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda events: _pool(events, lambda s, need: need if need in s else None),
            "you take blocks of exactly the right size only, like the pool in the "
            "text. A larger one will do, too.",
        ),
        Mistake(
            lambda events: _pool(events, lambda s, need: s[0]),
            "you take the first block that is large enough. Take the smallest of "
            "those, so that the large ones are there for large arrays.",
        ),
        Mistake(
            lambda events: _pool(events, lambda s, need: max(s)),
            "you take the largest free block; take the smallest that is large enough.",
        ),
        Mistake(
            lambda events: _pool(events, _smallest, unit=1),
            "sizes are not rounded up to multiples of 512.",
        ),
        Mistake(
            lambda events: _pool(events, lambda s, need: None),
            "you ask the driver each time: blocks that were let go can be used again.",
        ),
        Mistake(
            _in_use,
            "you take off what is let go. The pool keeps it: held never falls.",
        ),
    ),
    hints=(
        "Keep a list of the sizes of free blocks, and the size of each array's block.",
        "min((s for s in free if s >= need), default=None) is the best fit, or None.",
        "An array keeps the whole block: when it is let go, that size becomes free.",
    ),
)
