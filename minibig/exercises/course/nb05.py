"""The exercises of notebook 05: one scale, dropout, early stopping, paired runs."""

import math

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 05.standardize -----------------------------------------------------------------


def _tables(shape, others, constant=()):
    def make():
        rng = np.random.default_rng(sum(shape) + others)
        train = rng.normal(5.0, 3.0, shape)
        train[:, list(constant)] = 2.5
        return train, rng.normal(6.0, 3.0, (others, shape[1]))

    return make


def _two_rows():
    return np.array([[1.0, 10.0], [3.0, 30.0]]), np.array([[4.0, 0.0], [2.0, 25.0]])


def _standardize(train, rows):
    deviation = train.std(0)
    return (rows - train.mean(0)) / np.where(deviation == 0, 1, deviation)


def _unguarded(train, rows):
    with np.errstate(all="ignore"):
        return (rows - train.mean(0)) / train.std(0)


def _by_variance(train, rows):
    variance = train.var(0)
    return (rows - train.mean(0)) / np.where(variance == 0, 1, variance)


def _unbiased(train, rows):
    with np.errstate(all="ignore"):
        deviation = train.std(0) * math.sqrt(len(train) / max(len(train) - 1, 1))
        return (rows - train.mean(0)) / np.where(deviation == 0, 1, deviation)


standardize = Exercise(
    name="05.standardize",
    task="Return rows on the scale of the training rows: mean 0, deviation 1 there.",
    solution=_standardize,
    cases=(
        Case("by hand", _two_rows),
        Case("three columns", _tables((20, 3), 6)),
        Case("one new row", _tables((9, 2), 1), "edge"),
        Case("a constant column", _tables((8, 3), 4, (1,)), "edge"),
        Case("one training row", _tables((1, 2), 3), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda train, rows: _standardize(rows, rows),
            "mean and deviation must be those of the training rows: what is done to a "
            "new row may not depend on the rows that happen to come with it.",
        ),
        Mistake(
            lambda train, rows: _standardize(np.concatenate([train, rows]), rows),
            "the new rows have a say in the statistics: take the training rows alone, "
            "or the test has leaked into the training.",
        ),
        Mistake(
            _unguarded,
            "a column that is constant in training has deviation 0; divide it by 1, so "
            "that it is centred only.",
        ),
        Mistake(
            _by_variance,
            "divide by the standard deviation, the root of the variance.",
        ),
        Mistake(
            _unbiased,
            "the deviation is the one with 1/n (NumPy's default), not with 1/(n - 1).",
        ),
        Mistake(
            lambda train, rows: (rows - train.mean()) / (train.std() or 1),
            "each column has a mean and a deviation of its own: axis 0.",
        ),
    ),
    hints=(
        "Which rows may be looked at, and along which axis?",
        "train.mean(0) and train.std(0) are (F,) and broadcast against rows (M, F).",
        "deviation = train.std(0); divide by np.where(deviation == 0, 1, deviation).",
    ),
)

# ---- 05.dropout ---------------------------------------------------------------------


def _activations(shape, p):
    def make():
        rng = np.random.default_rng(sum(shape))
        return rng.normal(size=shape), rng.normal(size=shape), p, rng.random(shape)

    return make


def _small():
    x, dy = np.array([2.0, 4.0, 6.0, 8.0]), np.array([1.0, -1.0, 2.0, 3.0])
    return x, dy, 0.75, np.array([0.9, 0.1, 0.8, 0.7])


def _dropout(x, dy, p, draws):
    kept = (draws >= p) / (1 - p)
    return kept * x, kept * dy


dropout = Exercise(
    name="05.dropout",
    task="Return dropout's output and the gradient by its input.",
    solution=_dropout,
    cases=(
        Case("by hand", _small),
        Case("a batch", _activations((4, 6), 0.3)),
        Case("the gradient", _activations((5, 7), 0.6), "gradient"),
        Case("p = 0", _activations((3, 3), 0.0), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x, dy, p, draws: ((draws >= p) * x, (draws >= p) * dy),
            "what is kept must grow by 1 / (1 - p), or the sum is smaller in training "
            "than when the model is used.",
        ),
        Mistake(
            lambda x, dy, p, draws: (_dropout(x, dy, p, draws)[0], dy / (1 - p)),
            "the gradient of a dropped number is 0, whatever the factor.",
        ),
        Mistake(
            lambda x, dy, p, draws: ((draws < p) / (1 - p) * x,
                                     (draws < p) / (1 - p) * dy),
            "kept and dropped have changed places: p is the probability to be dropped, "
            "so a number is dropped where its draw is below p.",
        ),
        Mistake(
            lambda x, dy, p, draws: (_dropout(x, dy, p, draws)[0], dy),
            "the gradient of a dropped number is 0: it had no part in the output.",
        ),
        Mistake(
            lambda x, dy, p, draws: (_dropout(x, dy, p, draws)[0], (draws >= p) * dy),
            "the gradient goes through the factor 1 / (1 - p) as well.",
        ),
        Mistake(
            lambda x, dy, p, draws: ((draws >= p) * (1 - p) * x,
                                     (draws >= p) * (1 - p) * dy),
            "divide what is kept by 1 - p; multiplying makes it smaller still.",
        ),
    ),
    hints=(
        "Make one array of factors: 0 where a number is dropped, and elsewhere?",
        "The expected factor must be 1: a share 1 - p is kept, each times 1 / (1 - p).",
        "kept = (draws >= p) / (1 - p); the same factors serve x and dy.",
    ),
)  # fmt: skip

# ---- 05.early_stopping --------------------------------------------------------------


def _losses(patience, *values):
    return lambda: (list(values), patience)


def _stop(losses, patience, better=lambda new, best: new < best, late=0):
    best = 0
    for i, loss in enumerate(losses):
        if better(loss, losses[best]):
            best = i
        if i - best >= patience + late:
            return best, i + 1
    return best, len(losses)


def _against_the_last(losses, patience):
    best, worse = 0, 0
    for i in range(1, len(losses)):
        worse = 0 if losses[i] < losses[i - 1] else worse + 1
        best = i if losses[i] < losses[best] else best
        if worse >= patience:
            return best, i + 1
    return best, len(losses)


def _counts_all(losses, patience):
    best, worse = 0, 0
    for i in range(1, len(losses)):
        if losses[i] < losses[best]:
            best = i
        else:
            worse += 1
        if worse >= patience:
            return best, i + 1
    return best, len(losses)


def _looks_ahead(losses, patience):
    return int(np.argmin(losses)), _stop(losses, patience)[1]


def _last(losses, patience):
    looked_at = _stop(losses, patience)[1]
    return looked_at - 1, looked_at


early_stopping = Exercise(
    name="05.early_stopping",
    task="Return which evaluation is the best, and how many were made.",
    solution=_stop,
    cases=(
        Case("a valley", _losses(2, 3.0, 2.0, 1.0, 1.5, 1.7, 0.1)),
        Case("a bump is survived", _losses(3, 3.0, 2.0, 2.5, 2.4, 1.0, 1.1, 1.2)),
        Case("a slow way back", _losses(2, 1.0, 3.0, 2.0, 1.5, 0.5)),
        Case("several bumps", _losses(2, 5.0, 6.0, 4.0, 7.0, 3.0, 8.0, 2.0)),
        Case("it falls to the end", _losses(1, 4.0, 3.0, 2.0), "edge"),
        Case("equal is no better", _losses(2, 2.0, 1.0, 1.0, 1.0, 0.5), "edge"),
        Case("one evaluation", _losses(1, 2.0), "edge"),
    ),
    mistakes=(
        Mistake(
            _against_the_last,
            "compare with the best loss so far, not with the one before: a slow way "
            "back up and down is no progress.",
        ),
        Mistake(
            _counts_all,
            "patience starts anew with every new best: count evaluations since then.",
        ),
        Mistake(
            _looks_ahead,
            "the best is looked for beyond the stop, where nobody has been.",
        ),
        Mistake(
            lambda losses, patience: _stop(losses, patience, lambda a, b: a <= b),
            "a loss that equals the best is no better: patience goes on running out.",
        ),
        Mistake(
            lambda losses, patience: _stop(losses, patience, late=1),
            "one evaluation too many: stop as soon as `patience` of them in a row were "
            "no better than the best.",
        ),
        Mistake(
            _last,
            "the evaluation to go back to is the best one, not the last.",
        ),
    ),
    hints=(
        "Two numbers are enough to remember: where the best was, and where you are.",
        "After looking at evaluation i, i - best of them in a row were no better.",
        "Stop when i - best reaches patience; i + 1 evaluations were made then.",
    ),
)

# ---- 05.paired ----------------------------------------------------------------------


def _runs(count, spread, gain):
    def make():
        rng = np.random.default_rng(count)
        luck = rng.normal(90.0, spread, count)
        noise = rng.normal(0.0, 0.5, (2, count))
        return luck + gain + noise[0], luck + noise[1]

    return make


def _five():
    return np.array([90.0, 88, 91, 89, 92]), np.array([88.0, 87, 91, 86, 88])


def _paired(a, b):
    d = np.asarray(a) - b
    return d.mean(), d.std(ddof=1) / math.sqrt(len(d))


def _unpaired(a, b):
    return (a - b).mean(), math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))


paired = Exercise(
    name="05.paired",
    task="Return the mean of paired differences and its standard error.",
    solution=_paired,
    cases=(
        Case("by hand", _five),
        Case("five seeds", _runs(5, 3.0, 1.0)),
        Case("twenty seeds", _runs(20, 2.0, -0.5)),
        Case("two seeds", _runs(2, 1.0, 2.0), "edge"),
        Case("always the same gain", lambda: (np.arange(4.0) + 2, np.arange(4.0)),
             "edge"),
    ),
    mistakes=(
        Mistake(
            _unpaired,
            "that is the error of two unrelated groups: take the differences first, "
            "seed by seed, and then their spread.",
        ),
        Mistake(
            lambda a, b: ((a - b).mean(), (a - b).std(ddof=1)),
            "that is the spread of one difference; the mean of n of them is surer by "
            "the root of n.",
        ),
        Mistake(
            lambda a, b: ((a - b).mean(), (a - b).std() / math.sqrt(len(a))),
            "the mean was taken from the same numbers, so divide by n - 1: ddof=1.",
        ),
        Mistake(
            lambda a, b: ((a - b).mean(), (a - b).std(ddof=1) / len(a)),
            "divide the spread by the root of n, not by n.",
        ),
        Mistake(
            lambda a, b: (_paired(b, a)),
            "a gain is what `a` has more than `b`: the sign is the other way round.",
        ),
    ),
    hints=(
        "What does one seed say about the two? One number: the difference.",
        "The spread of the differences d is the root of sum((d - mean)²) / (n - 1).",
        "d = a - b; return d.mean() and d.std(ddof=1) / sqrt(n).",
    ),
)  # fmt: skip
