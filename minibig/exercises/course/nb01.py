"""Exercises of notebook 01, tensors: offsets, broadcasting, loops, a safe softmax."""

import math

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 01.strides ---------------------------------------------------------------------


def _offset(index, shape, strides):
    wrapped = (i + n if i < 0 else i for i, n in zip(index, shape, strict=True))
    return sum(i * s for i, s in zip(wrapped, strides, strict=True))


def _offset_without_wrapping(index, shape, strides):
    return sum(i * s for i, s in zip(index, strides, strict=True))


def _offset_one_too_low(index, shape, strides):
    wrapped = [i + n - 1 if i < 0 else i for i, n in zip(index, shape, strict=True)]
    return _offset_without_wrapping(wrapped, shape, strides)


def _offset_from_shape(index, shape, strides):
    return _offset(index, shape, shape)


def _offset_reversed(index, shape, strides):
    return _offset(index, shape, strides[::-1])


strides = Exercise(
    name="01.strides",
    task="Find how many bytes after element (0, …, 0) the element at `index` lies.",
    solution=_offset,
    cases=(
        Case("x[1, 2], rows of 4", lambda: ((1, 2), (3, 4), (16, 4))),
        Case("transposed", lambda: ((2, 1), (4, 3), (4, 16))),
        Case("three axes", lambda: ((1, 2, 3), (2, 3, 4), (48, 16, 4))),
        Case("x[-1, 0]", lambda: ((-1, 0), (3, 4), (16, 4)), "edge"),
        Case("upside down", lambda: ((2, 3), (3, 4), (-16, 4)), "edge"),
        Case("broadcast", lambda: ((2, -1), (3, 4), (0, 4)), "edge"),
        Case("no axis at all", lambda: ((), (), ()), "edge"),
    ),
    mistakes=(
        Mistake(
            _offset_without_wrapping,
            "a negative index counts from the end: -1 stands for n - 1, where n is "
            "the length of that axis.",
        ),
        Mistake(
            _offset_one_too_low,
            "index -1 is the last element, n - 1: add n to a negative index, no less.",
        ),
        Mistake(
            _offset_from_shape,
            "you multiplied by the lengths of the axes; one step along an axis moves "
            "by its stride.",
        ),
        Mistake(
            _offset_reversed,
            "the strides are used in reverse order: the first stride belongs to the "
            "first index.",
        ),
    ),
    hints=(
        "Each axis moves you by its own index times its own stride; add the moves up.",
        "Replace a negative index i by i + n first, where n is that axis' length.",
        "sum(i * s for i, s in zip(index, strides)), after the negative ones are "
        "replaced.",
    ),
    shown=str,
)

# ---- 01.broadcast -------------------------------------------------------------------


def _pair(n, m):
    """The common length of two axes, or None."""
    if n == m or m == 1:
        return n
    return m if n == 1 else None


def _joined(lengths):
    return "error" if None in lengths else tuple(lengths)


def _padded(a, b):
    longest = max(len(a), len(b))
    return (1,) * (longest - len(a)) + tuple(a), (1,) * (longest - len(b)) + tuple(b)


def _broadcast_shape(a, b):
    return _joined([_pair(n, m) for n, m in zip(*_padded(a, b), strict=True)])


def _broadcast_left(a, b):
    return _joined_reversed(_broadcast_shape(a[::-1], b[::-1]))


def _joined_reversed(shape):
    return shape if shape == "error" else shape[::-1]


def _broadcast_short(a, b):
    common = min(len(a), len(b))
    return _broadcast_shape(a[len(a) - common :], b[len(b) - common :])


def _broadcast_largest(a, b):
    return tuple(max(n, m) for n, m in zip(*_padded(a, b), strict=True))


def _broadcast_largest_of_fitting(a, b):
    shape = _broadcast_shape(a, b)
    return shape if shape == "error" else _broadcast_largest(a, b)


broadcast = Exercise(
    name="01.broadcast",
    task='Find the shape of a + b from the two shapes, or "error" if they do not fit.',
    solution=_broadcast_shape,
    cases=(
        Case("table + row", lambda: ((3, 4), (4,))),
        Case("column + row", lambda: ((3, 1), (4,))),
        Case("8,1,6 and 7,1", lambda: ((8, 1, 6), (7, 1))),
        Case("(3, 4) and (3,)", lambda: ((3, 4), (3,))),
        Case("(2, 3) and (4, 3)", lambda: ((2, 3), (4, 3))),
        Case("a number + table", lambda: ((), (2, 5)), "edge"),
        Case("two numbers", lambda: ((), ()), "edge"),
        Case("empty and 1", lambda: ((0, 3), (1, 3)), "edge"),
    ),
    mistakes=(
        Mistake(
            _broadcast_left,
            "the shapes are lined up on the left; they are compared from the last "
            "axis backwards.",
        ),
        Mistake(
            _broadcast_short,
            "the axes that only the longer shape has are lost: zip stops at the end "
            "of the shorter one.",
        ),
        Mistake(
            _broadcast_largest,
            "two different lengths fit only where one of them is 1: (3,) and (4,) "
            "are an error, not (4,).",
        ),
        Mistake(
            _broadcast_largest_of_fitting,
            "max() is wrong for an empty axis: 1 stretches to 0 as well, and 0 and 1 "
            "give 0.",
        ),
    ),
    hints=(
        "Put ones in front of the shorter shape until both are equally long.",
        "Axis by axis: equal lengths stay, a 1 takes the other length, anything else "
        "is an error.",
        "n if n == m or m == 1, m if n == 1, otherwise the whole answer is an error.",
    ),
    shown=str,
)

# ---- 01.einsum_loops ----------------------------------------------------------------


def _scores(q, k):
    out = np.zeros((q.shape[1], q.shape[0], k.shape[0]))
    for h in range(q.shape[1]):
        for t in range(q.shape[0]):
            for s in range(k.shape[0]):
                for d in range(q.shape[2]):
                    out[h, t, s] += q[t, h, d] * k[s, h, d]
    return out


def _scores_overwritten(q, k):
    return _scores(q[..., -1:], k[..., -1:])


def _scores_over_heads(q, k):
    return _scores(q, k).sum(axis=0)


def _scores_swapped(q, k):
    return _scores(k, q)


def _scores_unsummed(q, k):
    return np.einsum("thd,shd->htsd", q, k)


def _random(seed, *shapes):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(-4, 5, shape).astype(np.float64) for shape in shapes)


def _by_hand():
    return np.array([[[1.0, 2.0]], [[3.0, 4.0]]]), np.array([[[5.0, 6.0]]])


einsum_loops = Exercise(
    name="01.einsum_loops",
    task='Write the sum "thd,shd->hts" as four nested loops.',
    solution=_scores,
    cases=(
        Case("by hand: 17, 39", _by_hand),
        Case("T=3, S=2, H=2, D=4", lambda: _random(1, (3, 2, 4), (2, 2, 4))),
        Case("T=S=3, H=2, D=2", lambda: _random(2, (3, 2, 2), (3, 2, 2))),
        Case("D=0: empty sums", lambda: _random(3, (2, 2, 0), (3, 2, 0)), "edge"),
        Case("one of each", lambda: _random(4, (1, 1, 1), (1, 1, 1)), "edge"),
    ),
    mistakes=(
        Mistake(
            _scores_overwritten,
            "only the last d survives: the innermost line must add (+=), not assign.",
        ),
        Mistake(
            _scores_over_heads,
            "h stands in the output, so it must not be summed over: each head keeps "
            "its own table.",
        ),
        Mistake(
            _scores_swapped,
            "the last two axes are exchanged: the output is [h, t, s], t of q first.",
        ),
        Mistake(
            _scores_unsummed,
            "d is missing in the output, so the products must be added up over d.",
        ),
    ),
    hints=(
        "One loop for each letter: t, h, s and d. The letters before the arrow say "
        "where to read, those after it where to write.",
        "Begin with out = np.zeros((H, T, S)), with T, H, D = q.shape and S = len(k).",
        "Innermost: out[h, t, s] += q[t, h, d] * k[s, h, d].",
    ),
)

# ---- 01.softmax_stable --------------------------------------------------------------


def _softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _softmax_unshifted(x):
    with np.errstate(all="ignore"):
        e = np.exp(x)
        return e / e.sum(axis=1, keepdims=True)


def _softmax_shifted_by_all(x):
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max())
        return e / e.sum(axis=1, keepdims=True)


def _softmax_of_columns(x):
    with np.errstate(all="ignore"):
        return _softmax(x.T).T


def _softmax_without_keepdims(x):
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=1))
        return e / e.sum(axis=1)


def _softmax_around_mean(x):
    with np.errstate(all="ignore"):
        e = np.exp(x - x.mean(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


def _log_softmax(x):
    with np.errstate(divide="ignore"):
        return np.log(_softmax(x))


def _log_softmax_unshifted(x):
    with np.errstate(all="ignore"):
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def _softmax_of_all(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def _table(*rows):
    return lambda: (np.array(rows, dtype=np.float32),)


softmax_stable = Exercise(
    name="01.softmax_stable",
    task="Turn each row of scores into probabilities without overflow.",
    solution=_softmax,
    cases=(
        Case("0, log 3: ¼ and ¾", _table([0, math.log(3)])),
        Case("two rows", _table([1, 2, 3], [3, 0, 0])),
        Case("square", _table([1, 2], [5, 0])),
        Case("scores of 1000", _table([1000, 1001, 1002], [0, 1, 2]), "edge"),
        Case("1000 over -1000", _table([1000, 999], [-1000, -999]), "edge"),
        Case("a score of -inf", _table([-math.inf, 0, 0], [1, 1, 1]), "edge"),
        Case("one column", _table([7], [-7]), "edge"),
    ),
    mistakes=(
        Mistake(
            _softmax_unshifted,
            "exp(1000) is infinite and inf / inf is nan: subtract each row's largest "
            "score before exp.",
        ),
        Mistake(
            _softmax_shifted_by_all,
            "you subtract the largest score of the whole table, so rows far below it "
            "become 0 / 0: each row needs its own maximum.",
        ),
        Mistake(
            _softmax_of_columns,
            "here the columns sum to 1, not the rows: reduce along axis=1.",
        ),
        Mistake(
            _softmax_without_keepdims,
            "a row's maximum and sum have shape (N,), which is lined up with the "
            "columns: keepdims=True makes it (N, 1).",
        ),
        Mistake(
            _softmax_of_all,
            "the whole table sums to 1: each row should, so sum along axis=1.",
        ),
        Mistake(
            _softmax_around_mean,
            "you subtract each row's mean. Only its largest score makes every exponent "
            "at most 0, and where one score is -inf, so is the mean.",
        ),
        Mistake(
            _log_softmax,
            "these are the logarithms of the probabilities: divide e by its row sum, "
            "and take no logarithm.",
            also=(_log_softmax_unshifted,),
        ),
    ),
    hints=(
        "Softmax does not change when the same number is subtracted from all scores "
        "of a row: which number makes the largest exponential e⁰?",
        "x.max(axis=1, keepdims=True) has shape (N, 1) and broadcasts over the row.",
        "e = np.exp(x - x.max(axis=1, keepdims=True)), then divide by the row sums, "
        "again with keepdims=True.",
    ),
)
