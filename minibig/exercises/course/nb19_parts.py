"""The exercises of notebook 19 on parts: of a batch, and segments of a network."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 19.unscaled --------------------------------------------------------------------


def _shares(counts):
    return (counts / counts.sum()).astype("float32")


def _with_shares(gradients, shares, scale):
    total = (gradients.astype("float32") * shares[:, None]).sum(0)
    return total / np.float32(scale), bool(np.isfinite(total).all())


def _unscaled(gradients, counts, scale):
    return _with_shares(gradients, _shares(counts), scale)


def _not_weighted(gradients, counts, scale):
    even = np.full(len(counts), 1 / len(counts), "float32")
    return _with_shares(gradients, even, scale)


def _still_scaled(gradients, counts, scale):
    return _with_shares(gradients, _shares(counts), 1)


def _divided_in_float16(gradients, counts, scale):
    with np.errstate(all="ignore"):
        small = (gradients / np.float32(scale)).astype("float16")
    total = _with_shares(small, _shares(counts), 1)[0]
    return total, bool(np.isfinite(total).all())


def _divided_by_infinity(gradients, counts, scale):
    with np.errstate(all="ignore"):
        small = gradients / scale  # 65,536 is infinite in float16
    return _with_shares(small, _shares(counts), 1)


def _added_in_float16(gradients, counts, scale):
    with np.errstate(all="ignore"):
        total = (gradients * counts[:, None].astype("float16")).sum(0, dtype="float16")
    total = total.astype("float32") / np.float32(counts.sum())
    return total / np.float32(scale), bool(np.isfinite(total).all())


def _never_skips(gradients, counts, scale):
    return _unscaled(gradients, counts, scale)[0], True


# Whole numbers and shares with a power of 2 below: float32 has all sums exactly.
def _gradients(parts, size, seed):
    drawn = np.random.default_rng([19, seed]).integers(-200, 200, (parts, size))
    return drawn.astype("float16")


def _by_hand():
    return np.float16([[4, 8], [8, -4]]), np.array([3, 1]), 4.0


def _tiny():
    return np.float16([[2**-10], [3 * 2**-10]]), np.array([1, 3]), 2.0**16


def _large_ones():
    return np.float16([[60000, 50016, 1], [60000, 40000, 2]]), np.array([9, 7]), 1024.0


def _overflow():
    gradients = _gradients(2, 3, 5)
    gradients[1, 2] = np.inf
    return gradients, np.array([4, 4]), 65536.0


unscaled = Exercise(
    name="19.unscaled",
    task="The gradient of the whole batch from its parts' scaled float16 gradients.",
    solution=_unscaled,
    cases=(
        Case("3 and 1 targets", _by_hand),
        Case("4 parts", lambda: (_gradients(4, 6, 1), np.array([4, 1, 2, 1]), 64.0)),
        Case("one part", lambda: (_gradients(1, 4, 2), np.array([8]), 2.0), "edge"),
        Case("tiny when divided", _tiny, "edge"),
        Case("nearly too large", _large_ones, "edge"),
        Case("an overflow", _overflow, "edge"),
    ),
    mistakes=(
        Mistake(
            _not_weighted,
            "you took the mean of the parts' means. Each part counts by its share of "
            "the targets, counts / counts.sum().",
        ),
        Mistake(
            _still_scaled,
            "the scale is still in it: divide by `scale`, in float32.",
        ),
        Mistake(
            _divided_in_float16,
            "you divided in float16, where what the scale had saved vanishes again. "
            "First .astype('float32'), then divide.",
        ),
        Mistake(
            _divided_by_infinity,
            "you divided in float16, where a scale of 65,536 is infinite, and what it "
            "had saved vanishes. First .astype('float32'), then divide.",
        ),
        Mistake(
            _added_in_float16,
            "you added in float16, which overflows or loses digits. First "
            ".astype('float32').",
        ),
        Mistake(
            _never_skips,
            "you step although a gradient is infinite: such a step must be skipped.",
        ),
    ),
    hints=(
        "Three things in the right order: widen, add up with shares, divide.",
        "Shares are counts / counts.sum(); as a column they go with (P, N).",
        "It may step where np.isfinite(total).all().",
    ),
    tolerance=0.0,
)


# ---- 19.best_segment ----------------------------------------------------------------


def _held(n, a, k):
    return -(-n // k) + a * k


def _best_segment(n, a):
    held = [_held(n, a, k) for k in range(1, n + 1)]
    return held.index(min(held)) + 1, min(held)


def _root_of_n(n, a):
    k = max(round(n**0.5), 1)
    return k, _held(n, a, k)


def _near_the_root(rounded):
    def best_segment(n, a):
        k = min(max(int(rounded((n / a) ** 0.5)), 1), n)
        return k, _held(n, a, k)

    return best_segment


def _beside_the_root(n, a):
    found = [_near_the_root(rounded)(n, a) for rounded in (np.floor, np.ceil)]
    return min(found, key=lambda pair: pair[1])


def _with(of, lengths=lambda n: range(1, n + 1)):
    """The best of other numbers of arrays, or of other lengths."""

    def best_segment(n, a):
        held = [of(n, a, k) for k in lengths(n)]
        return lengths(n)[held.index(min(held))], min(held)

    return best_segment


def _counted_from_0(n, a):
    k, held = _best_segment(n, a)
    return k - 1, held


def _exchanged(n, a):
    return _best_segment(n, a)[::-1]


def _the_longest(n, a):
    k, held = _best_segment(n, a)
    return max(j for j in range(k, n + 1) if _held(n, a, j) == held), held


def _not_the_last(n, a):
    return _with(lambda n, a, k: _held(n, a, k) - 1)(n, a)


def _one_array_inside(n, a):
    return _best_segment(n, 1)


best_segment = Exercise(
    name="19.best_segment",
    task="The segment length that keeps the fewest arrays, and how many: (k, m).",
    solution=_best_segment,
    cases=(
        Case("16 layers of 1", lambda: (16, 1)),
        Case("GPT-2: 12 of 16", lambda: (12, 16)),
        Case("96 of 16: two are best", lambda: (96, 16)),
        Case("50 of 3", lambda: (50, 3)),
        Case("GPT-2 XL: 48 of 16", lambda: (48, 16)),
        Case("10 of 1: four are best", lambda: (10, 1)),
        Case("one layer", lambda: (1, 5), "edge"),
    ),
    mistakes=(
        Mistake(
            _one_array_inside,
            "you counted one array a layer while a segment is computed again; there "
            "are `a` of each of its layers.",
        ),
        Mistake(
            _root_of_n,
            "the root of n is best for a = 1 alone: with more arrays inside, segments "
            "should be shorter.",
        ),
        Mistake(
            _near_the_root(round),
            "you rounded the root of n / a. Segments come in whole numbers, and the "
            "best one, or the smallest of several, may lie beside it: try them all.",
            also=(
                _near_the_root(np.floor),
                _near_the_root(np.ceil),
                _beside_the_root,
            ),
        ),
        Mistake(
            _with(lambda n, a, k: n // k + a * k),
            "n // k forgets the last, shorter segment: its input is kept too, so the "
            "number of segments is rounded up.",
        ),
        Mistake(
            _with(lambda n, a, k: n / k + a * k),
            "n / k is no number of segments where k does not divide n: the last, "
            "shorter one counts as a whole, so round up.",
        ),
        Mistake(
            _not_the_last,
            "one input too few: all segments keep theirs, the last one too.",
        ),
        Mistake(
            _with(lambda n, a, k: -(-n // k) + a * k, lambda n: range(1, n)),
            "range(1, n) ends at n - 1: a single segment, k = n, is a choice too, and "
            "the only one for one layer.",
        ),
        Mistake(
            _counted_from_0,
            "k is one too small: the first place of a list is 0, and the first length "
            "is 1.",
        ),
        Mistake(
            _exchanged,
            "the two numbers are exchanged: first the length, then its arrays.",
        ),
        Mistake(
            _the_longest,
            "of several best lengths you took the longest; the smallest is asked for.",
        ),
    ),
    hints=(
        "Write a function of k that counts: segments, and arrays inside one segment.",
        "There are ⌈n / k⌉ segments: -(-n // k) in Python.",
        "held.index(min(held)) is the first of the best, for k = 1, 2, … n.",
    ),
)
