"""The exercises of notebook 09: shifting, smoothing, LayerNorm's gradient, beams."""

import numpy as np

from ..exercise import Case, Exercise, Mistake


def _normal(*shape, seed=0):
    return np.random.default_rng([9, seed]).standard_normal(shape)


# ---- 09.shift -----------------------------------------------------------------------

BEGIN, END, IGNORED = 1, 2, -100


def _shift(ids, lengths):
    batch, longest = ids.shape
    places = np.arange(longest + 1)
    inputs = np.concatenate([np.full((batch, 1), BEGIN), ids], axis=1)
    targets = np.concatenate([ids, np.zeros((batch, 1), ids.dtype)], axis=1)
    ends = np.asarray(lengths)[:, None]
    targets = np.where(places == ends, END, targets)
    return inputs, np.where(places > ends, IGNORED, targets)


def _not_shifted(ids, lengths):
    targets = _shift(ids, lengths)[1]
    return np.where(targets == IGNORED, 0, targets), targets


def _end_of_the_row(ids, lengths):
    inputs, targets = _shift(ids, np.full(len(ids), ids.shape[1]))
    places, ends = np.arange(targets.shape[1]), np.asarray(lengths)[:, None]
    padding = (places >= ends) & (places < targets.shape[1] - 1)
    return inputs, np.where(padding, IGNORED, targets)


def _padding_counts(ids, lengths):
    inputs, targets = _shift(ids, lengths)
    return inputs, np.where(targets == IGNORED, 0, targets)


def _no_end(ids, lengths):
    inputs, targets = _shift(ids, lengths)
    return inputs, np.where(targets == END, IGNORED, targets)


def _padded(*texts):
    longest = max(map(len, texts))
    ids = [[*text, *[0] * (longest - len(text))] for text in texts]
    return np.array(ids), np.array([len(text) for text in texts])


shift = Exercise(
    name="09.shift",
    task="What the decoder is given and what it is asked for: two arrays (B, T + 1).",
    solution=_shift,
    cases=(
        Case("two texts", lambda: _padded([5, 6, 7], [8, 9, 5])),
        Case("different lengths", lambda: _padded([5, 6, 7, 8], [9], [6, 6])),
        Case("an empty text", lambda: _padded([5, 6], []), "edge"),
        Case("one character", lambda: _padded([7]), "edge"),
    ),
    mistakes=(
        Mistake(
            _not_shifted,
            "the inputs are the targets: the network would see each answer at the "
            "place where it is asked for. Begin stands first, the rest moves on.",
        ),
        Mistake(
            _end_of_the_row,
            "your end stands at the end of the row. It belongs right behind each text, "
            "at place lengths[b], and padding comes after it.",
        ),
        Mistake(
            _padding_counts,
            "padding is a target: the network is asked to learn it. Behind the end all "
            "targets are -100, which cross_entropy leaves out.",
        ),
        Mistake(
            _no_end,
            "nobody is asked for the end, so the network would never stop writing.",
        ),
    ),
    hints=(
        "Both results are one longer than ids: one gets a column in front, one behind.",
        "Compare np.arange(T + 1) with lengths[:, None]: equal is where the end goes.",
        "np.where(places == ends, 2, ...), then np.where(places > ends, -100, ...).",
    ),
)


# ---- 09.smoothed_gradient -----------------------------------------------------------


def _softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _targets(logits, ids, smoothing):
    classes = logits.shape[1]
    return (1 - smoothing) * np.eye(classes)[ids] + smoothing / classes


def _smoothed_gradient(logits, ids, smoothing):
    return (_softmax(logits) - _targets(logits, ids, smoothing)) / len(logits)


def _others_only(logits, ids, smoothing):
    right = np.eye(logits.shape[1])[ids]
    wanted = (1 - smoothing) * right + smoothing / (logits.shape[1] - 1) * (1 - right)
    return (_softmax(logits) - wanted) / len(logits)


def _not_scaled_down(logits, ids, smoothing):
    wanted = np.eye(logits.shape[1])[ids] + smoothing / logits.shape[1]
    return (_softmax(logits) - wanted) / len(logits)


def _row(*logits):
    return np.array([logits]), np.array([0]), 0.2


smoothed_gradient = Exercise(
    name="09.smoothed_gradient",
    task="The gradient of the mean smoothed loss by the logits: (N, V) -> (N, V).",
    solution=_smoothed_gradient,
    cases=(
        Case("4 equal logits", lambda: _row(0.0, 0.0, 0.0, 0.0)),
        Case("5 rows", lambda: (_normal(5, 6), np.array([0, 5, 2, 2, 1]), 0.1)),
        Case("the best logits", lambda: _row(np.log(17), 0.0, 0.0, 0.0), "gradient"),
        Case("no smoothing", lambda: (_normal(3, 4), np.array([1, 2, 3]), 0.0), "edge"),
        Case("large logits", lambda: (300 * _normal(2, 3), np.array([0, 1]), 0.1),
             "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x, ids, s: _smoothed_gradient(x, ids, 0.0),
            "this is the gradient without smoothing: it still asks for probability 1.",
        ),
        Mistake(
            _others_only,
            "you gave the share s to the wrong classes alone. It goes to all V, the "
            "right one too, which therefore wants 1 - s + s / V.",
        ),
        Mistake(
            _not_scaled_down,
            "your targets sum to 1 + s: the right class must give away what is spread.",
        ),
        Mistake(
            lambda x, ids, s: _smoothed_gradient(x, ids, s) * len(x),
            "the loss is a mean over the rows, so the gradient is divided by N.",
        ),
        Mistake(
            lambda x, ids, s: -_smoothed_gradient(x, ids, s),
            "the sign is turned round: where the network gives more than is wanted, "
            "the loss grows with the logit.",
        ),
    ),
    hints=(
        "Without smoothing the gradient is softmax - one-hot, divided by N. What takes "
        "the place of the one-hot rows?",
        "wanted = (1 - s) * np.eye(V)[ids] + s / V",
        "(softmax(logits) - wanted) / N, with the largest logit taken off first.",
    ),
)  # fmt: skip


# ---- 09.layer_norm ------------------------------------------------------------------

EPS = 1e-5


def _normed(x):
    centred = x - x.mean(-1, keepdims=True)
    std = np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
    return centred / std, std


def _layer_norm_backward(x, dy):
    y, std = _normed(x)
    along = (dy * y).mean(-1, keepdims=True)
    return (dy - dy.mean(-1, keepdims=True) - y * along) / std


def _mean_forgotten(x, dy):
    y, std = _normed(x)
    return (dy - y * (dy * y).mean(-1, keepdims=True)) / std


def _variance_forgotten(x, dy):
    return (dy - dy.mean(-1, keepdims=True)) / _normed(x)[1]


def _summed(x, dy):
    y, std = _normed(x)
    along = (dy * y).sum(-1, keepdims=True)
    return (dy - dy.sum(-1, keepdims=True) - y * along) / std


def _over_the_batch(x, dy):
    return _layer_norm_backward(x.T, dy.T).T


layer_norm = Exercise(
    name="09.layer_norm",
    task="The gradient of LayerNorm, without weight and bias, by x: (N, C) -> (N, C).",
    solution=_layer_norm_backward,
    cases=(
        Case("(1, 2, 3, 6)", lambda: (np.array([[1.0, 2, 3, 6]]), np.eye(4)[:1])),
        Case("3 rows of 5", lambda: (_normal(3, 5), _normal(3, 5, seed=1)), "gradient"),
        Case("upstream of ones", lambda: (_normal(2, 4), np.ones((2, 4))), "edge"),
        Case("upstream = output", lambda: (9 * _normal(2, 4),
                                           _normed(9 * _normal(2, 4))[0]), "edge"),
        Case("far from zero", lambda: (_normal(2, 6) + 100, _normal(2, 6, seed=2))),
    ),
    mistakes=(
        Mistake(
            lambda x, dy: dy / _normed(x)[1],
            "you took mean and variance for constants, but both move with x. Two terms "
            "are missing.",
        ),
        Mistake(
            _mean_forgotten,
            "the mean moves with x too: subtract the mean of dy over the row.",
        ),
        Mistake(
            _variance_forgotten,
            "the variance moves with x too: subtract y times the mean of dy * y.",
        ),
        Mistake(
            _summed,
            "you subtracted sums where means belong: mean and variance divide by C.",
        ),
        Mistake(
            _over_the_batch,
            "you normalised over the rows of the batch. LayerNorm takes each row by "
            "itself, over the last axis.",
        ),
    ),
    hints=(
        "A row with all numbers moved or all stretched gives the same y. So the "
        "gradient has no part along (1, …, 1) and none along y.",
        "Take from dy its mean, and y times the mean of dy * y.",
        "What is left is divided by the standard deviation, sqrt(var + 1e-5).",
    ),
)  # fmt: skip


# ---- 09.beam_step -------------------------------------------------------------------


def _best(total, beams):
    order = np.argsort(-total, axis=None, kind="stable")[:beams]
    parents, tokens = np.divmod(order, total.shape[1])
    return parents, tokens, total.ravel()[order]


def _beam_step(scores, log_p):
    return _best(scores[:, None] + log_p, len(scores))


def _one_from_each(scores, log_p):
    total = scores[:, None] + log_p
    tokens = total.argmax(1)
    best = total.max(1)
    order = np.argsort(-best, kind="stable")
    return order, tokens[order], best[order]


def _worst_first(scores, log_p):
    return tuple(part[::-1] for part in _beam_step(scores, log_p))


def _divided_by_beams(scores, log_p):
    total = scores[:, None] + log_p
    order = np.argsort(-total, axis=None, kind="stable")[: len(scores)]
    return order // len(scores), order % len(scores), total.ravel()[order]


def _log_p(beams, classes, seed):
    logits = 2 * _normal(beams, classes, seed=seed)
    return np.log(_softmax(logits))


beam_step = Exercise(
    name="09.beam_step",
    task="One step of beam search: the k best of k · V continuations, best first.",
    solution=_beam_step,
    cases=(
        Case("0.6 and 0.4", lambda: (
            np.log([0.6, 0.4]), np.log([[0.4, 0.3, 0.3], [0.9, 0.05, 0.05]]))),
        Case("3 beams of 7", lambda: (-_normal(3, seed=3) ** 2, _log_p(3, 7, 4))),
        Case("one beam leads", lambda: (np.array([0.0, -30, -31]), _log_p(3, 5, 5))),
        Case("the first step", lambda: (
            np.array([0.0, -np.inf, -np.inf]), _log_p(3, 6, 6)), "edge"),
        Case("one beam: greedy", lambda: (np.array([-2.0]), _log_p(1, 5, 7)), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda scores, log_p: _best(log_p, len(scores)),
            "you compared the last characters alone. A text's ln P is its parent's "
            "score plus the new one.",
        ),
        Mistake(
            lambda scores, log_p: _best(scores[:, None] * log_p, len(scores)),
            "you multiplied logarithms. Probabilities are multiplied; their logarithms "
            "are added.",
        ),
        Mistake(
            _one_from_each,
            "you took the best continuation of each text. All k · V compete: one text "
            "may have several children, another none.",
        ),
        Mistake(
            _worst_first,
            "your order is from the worst to the best: np.argsort goes upwards.",
        ),
        Mistake(
            _divided_by_beams,
            "place i of the flattened table is row i // V and column i % V; you "
            "divided by the number of beams.",
        ),
    ),
    hints=(
        "Make the table of all totals, (k, V), and look for its k largest.",
        "np.argsort(-total, axis=None) sorts the flattened table, best first.",
        "np.divmod(order, V) gives the parents and the characters.",
    ),
)  # fmt: skip
