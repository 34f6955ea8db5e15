"""The exercises of notebook 19: memory, small floats, scaled gradients, segments."""

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 19.memory ----------------------------------------------------------------------


def _parameters(T, C, L, V):
    return V * C + T * C + L * (12 * C**2 + 13 * C) + 2 * C


def _bytes(B, T, C, L, V, size, again, weight=None, largest=None):
    """The account, with other bytes a weight, or another largest part beside it."""
    weight = weight or (12 if size == 4 else 14)
    largest = largest or (max(2 * V, 16 * C) if again else 2 * V)
    arrays = 2 + (L if again else 16 * L)
    return weight * _parameters(T, C, L, V) + size * B * T * (arrays * C + largest)


def _memory(B, T, C, L, V, size, again):
    return _bytes(B, T, C, L, V, size, again)


def _everything_narrow(B, T, C, L, V, size, again):
    return _bytes(B, T, C, L, V, size, again, weight=3 * size)


def _no_copies(B, T, C, L, V, size, again):
    return _bytes(B, T, C, L, V, size, again, weight=12)


def _gradients_too(B, T, C, L, V, size, again):
    return _bytes(B, T, C, L, V, size, again, weight=16 if size == 4 else 18)


def _logits_once(B, T, C, L, V, size, again):
    largest = max(V, 16 * C) if again else V
    return _bytes(B, T, C, L, V, size, again, largest=largest)


def _no_block_at_work(B, T, C, L, V, size, again):
    return _bytes(B, T, C, L, V, size, again, largest=2 * V)


def _both_at_once(B, T, C, L, V, size, again):
    largest = 2 * V + 16 * C * again
    return _bytes(B, T, C, L, V, size, again, largest=largest)


memory = Exercise(
    name="19.memory",
    task="Bytes at the peak of a training step of a GPT, by the notebook's formulas.",
    solution=_memory,
    cases=(
        Case("by hand: 1 token", lambda: (1, 1, 1, 1, 1, 4, False)),
        Case("GPT-2, 64 texts", lambda: (64, 1024, 768, 12, 50257, 4, False)),
        Case("in 16 bits", lambda: (16, 75, 48, 6, 161, 2, False)),
        Case("computed again", lambda: (16, 75, 48, 6, 161, 4, True)),
        Case("again, in 16 bits", lambda: (8, 1024, 768, 12, 50257, 2, True)),
        Case("no block at all", lambda: (2, 3, 4, 0, 5, 4, False), "edge"),
    ),
    mistakes=(
        Mistake(
            _everything_narrow,
            "with size 2 you halved weights and moments too. The weights stay float32 "
            "and so do the moments, 12 bytes; the copies of 2 bytes come on top.",
        ),
        Mistake(
            _no_copies,
            "in mixed precision the 16-bit copies of the weights exist beside the "
            "float32 ones: 14 bytes a weight, not 12.",
        ),
        Mistake(
            _gradients_too,
            "you counted the gradients of the weights. At the peak, where backward "
            "begins, there are none yet: weights and two moments make 12 bytes.",
        ),
        Mistake(
            _logits_once,
            "the logits count twice: when backward begins, they and their gradient, "
            "which is as large, are both there.",
        ),
        Mistake(
            _no_block_at_work,
            "the block at work holds its 16 arrays once more when computed again: "
            "where they are more than the logits and their gradient, they count.",
        ),
        Mistake(
            _both_at_once,
            "you added the block at work to the logits. When a block is computed "
            "again, the logits are gone: the larger of the two counts.",
        ),
    ),
    hints=(
        "Three parts: the model, arrays of (B, T, C), and the logits or a block.",
        "The model: N times 12, or 14 with copies. The logits: 2 B T V numbers.",
        "Arrays: 2 + 16 L, or 2 + L if computed again; times B T C size. Then the "
        "larger of 2 V and 16 C takes the place of 2 V.",
    ),
)


# ---- 19.round_to --------------------------------------------------------------------


def _spacing(x, exponent, fraction):
    bias = 2 ** (exponent - 1) - 1
    return 2.0 ** (np.maximum(np.frexp(x)[1] - 1, 1 - bias) - fraction)


def _limits(exponent, fraction):
    """(smallest normal number, largest number)."""
    bias = 2 ** (exponent - 1) - 1
    return 2.0 ** (1 - bias), (2 - 2.0**-fraction) * 2.0**bias


def _overflowed(y, x, exponent, fraction):
    largest = _limits(exponent, fraction)[1]
    return np.where(np.abs(y) > largest, np.copysign(np.inf, x), y)


def _round_to(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    return _overflowed(np.rint(x / spacing) * spacing, x, exponent, fraction)


def _cut_off(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    return _overflowed(np.trunc(x / spacing) * spacing, x, exponent, fraction)


def _ties_away(x, exponent, fraction):
    spacing = _spacing(x, exponent, fraction)
    whole = np.floor(np.abs(x) / spacing + 0.5)
    return _overflowed(np.copysign(whole * spacing, x), x, exponent, fraction)


def _flushed(x, exponent, fraction):
    smallest = _limits(exponent, fraction)[0]
    return np.where(np.abs(x) < smallest, 0, _round_to(x, exponent, fraction))


def _no_bottom(x, exponent, fraction):
    spacing = 2.0 ** (np.frexp(x)[1] - 1 - fraction)
    return _overflowed(np.rint(x / spacing) * spacing, x, exponent, fraction)


def _saturated(x, exponent, fraction):
    largest = _limits(exponent, fraction)[1]
    return np.clip(_round_to(x, exponent, fraction), -largest, largest)


def _drawn(low, high, seed):
    rng = np.random.default_rng([19, seed])
    return rng.standard_normal(40) * 2.0 ** rng.integers(low, high, 40)


def _numbers(*values):
    return np.array(values, "float64")


round_to = Exercise(
    name="19.round_to",
    task="x rounded to a float of so many exponent and fraction bits, ties to even.",
    solution=_round_to,
    cases=(
        Case("pi, 0.1, -3 (5, 10)", lambda: (_numbers(np.pi, 0.1, -3), 5, 10)),
        Case("40 numbers (8, 7)", lambda: (_drawn(-60, 60, 1), 8, 7)),
        Case("8 bits (5, 2)", lambda: (_drawn(-10, 10, 2), 5, 2)),
        Case(
            "ties (5, 10)", lambda: (_numbers(2049, 2051, -2049, 4098), 5, 10), "edge"
        ),
        Case("subnormal (5, 10)", lambda: (_drawn(-26, -14, 3), 5, 10), "edge"),
        Case("too large", lambda: (_numbers(65519, 65520, -1e6, 65504), 5, 10), "edge"),
        Case("gradients of 1e-8", lambda: (_numbers(1e-8, 4e-8, -1e-7), 5, 10), "edge"),
    ),
    mistakes=(
        Mistake(
            _cut_off,
            "you cut the rest off, which is always towards 0. Round to the nearest: "
            "np.rint.",
        ),
        Mistake(
            _ties_away,
            "ties go away from 0 in yours. In the middle of two numbers the even one "
            "wins, as np.rint does: 2,049 is 2,048 in float16.",
        ),
        Mistake(
            _flushed,
            "you made 0 of all numbers below the smallest normal one. There are "
            "subnormal numbers below it, with the spacing of that one.",
        ),
        Mistake(
            _no_bottom,
            "small numbers keep all their digits in yours: below the exponent 1 - bias "
            "the spacing gets no finer.",
        ),
        Mistake(
            _saturated,
            "what is too large becomes the largest number in yours; it must become "
            "infinite, with its sign.",
        ),
    ),
    hints=(
        "Find the spacing of the format's numbers around x; then round x / spacing.",
        "The exponent of x is np.frexp(x)[1] - 1, and at least 1 - bias; the spacing "
        "is 2 to the power (exponent - fraction).",
        "At the end: larger than (2 - 2^-fraction) 2^bias? Then np.copysign(inf, x).",
    ),
    tolerance=0.0,
)


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
        Case("3 parts", lambda: (_gradients(3, 6, 1), np.array([4, 1, 3]), 64.0)),
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


def _rounded_root(n, a):
    k = min(max(round((n / a) ** 0.5), 1), n)
    return k, _held(n, a, k)


def _divided_down(n, a):
    held = [n // k + a * k for k in range(1, n + 1)]
    return held.index(min(held)) + 1, min(held)


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
        Case("7 of 1", lambda: (7, 1)),
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
            _rounded_root,
            "you rounded the root of n / a. Segments come in whole numbers, and the "
            "best one, or the smallest of several, may lie beside it: try them all.",
        ),
        Mistake(
            _divided_down,
            "n // k forgets the last, shorter segment: its input is kept too, so the "
            "number of segments is rounded up.",
        ),
    ),
    hints=(
        "Write a function of k that counts: segments, and arrays inside one segment.",
        "There are ⌈n / k⌉ segments: -(-n // k) in Python.",
        "held.index(min(held)) is the first of the best, for k = 1, 2, … n.",
    ),
)
