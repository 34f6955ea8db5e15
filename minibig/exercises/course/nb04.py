"""The exercises of notebook 04: a layer, first weights, cross-entropy, scores."""

import math
from functools import partial

import numpy as np

from ..exercise import Case, Exercise, Mistake

# ---- 04.linear ----------------------------------------------------------------------


def _layer(rows, inputs, outputs):
    def make():
        draw = np.random.default_rng(rows + inputs).normal
        return (
            draw(size=(rows, inputs)),
            draw(size=(outputs, inputs)),
            draw(size=outputs),
        )

    return make


def _by_hand():
    weight = np.array([[1.0, -1.0], [0.5, 2.0], [-1.0, 0.0]])
    return np.array([[1.0, 2.0]]), weight, np.array([0.0, 1.0, 3.0])


def _linear(x, weight, bias):
    return x @ weight.T + bias


linear = Exercise(
    name="04.linear",
    task="Return x Wᵀ + b for a batch x (N, in).",
    solution=_linear,
    cases=(
        Case("by hand", _by_hand),
        Case("a batch", _layer(5, 3, 4)),
        Case("square weight", _layer(3, 3, 3)),
        Case("one row", _layer(1, 4, 2), "edge"),
        Case("no rows", _layer(0, 2, 3), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda x, weight, bias: x @ weight + bias,
            "the weight is (out, in): each output is a row of it, so x meets weight.T.",
        ),
        Mistake(
            lambda x, weight, bias: x @ weight.T,
            "the bias is missing; every output has one of its own to add.",
        ),
        Mistake(
            lambda x, weight, bias: x @ weight.T - bias,
            "the bias is subtracted where it should be added.",
        ),
        Mistake(
            lambda x, weight, bias: weight @ x.T + bias[:, None],
            "the result lies on its side: examples belong in the rows, (N, out).",
        ),
    ),
    hints=(
        "Every output is a weighted sum over the inputs: a matrix product.",
        "x is (N, in) and weight (out, in): which of them must be transposed to get "
        "(N, out)?",
        "x @ weight.T is (N, out); adding bias (out,) broadcasts over the rows.",
    ),
)

# ---- 04.he_init ---------------------------------------------------------------------


def _he_std(weight, a):
    return math.sqrt(2 / ((1 + a**2) * weight.shape[1]))


def _weight(outputs, inputs, a):
    return lambda: (np.zeros((outputs, inputs)), a)


he_init = Exercise(
    name="04.he_init",
    task="Return the standard deviation that keeps the signal through a leaky ReLU.",
    solution=_he_std,
    cases=(
        Case("ReLU, 8 inputs", _weight(3, 8, 0.0)),
        Case("ReLU, 200 inputs", _weight(50, 200, 0.0)),
        Case("leaky, a = 0.5", _weight(10, 32, 0.5)),
        Case("a = 1, no bend", _weight(6, 16, 1.0), "edge"),
        Case("one input", _weight(4, 1, 0.1), "edge"),
    ),
    mistakes=(
        Mistake(
            lambda weight, a: _he_std(weight, a) ** 2,
            "that is the variance; its square root is asked for.",
        ),
        Mistake(
            lambda weight, a: _he_std(weight.T, a),
            "a weight is (out, in): the inputs, which the sum runs over, come second.",
        ),
        Mistake(
            lambda weight, a: math.sqrt(2 / weight.shape[1]),
            "the slope a is not used: below 0 a leaky ReLU lets a² of the square pass.",
        ),
        Mistake(
            lambda weight, a: math.sqrt(2 / ((1 + a) * weight.shape[1])),
            "the signal is measured by its square, so the slope counts as a², not a.",
        ),
        Mistake(
            lambda weight, a: math.sqrt(2 / ((1 + a**2) * sum(weight.shape))),
            "in + out is Xavier's compromise; keeping the forward signal asks for in.",
            also=(
                lambda weight, a: math.sqrt(2 / sum(weight.shape)),
                lambda weight, a: math.sqrt(6 / sum(weight.shape)),
            ),
        ),
        Mistake(
            lambda weight, a: math.sqrt(1 / weight.shape[1]),
            "that keeps the signal without an activation; ReLU halves its square.",
        ),
    ),
    hints=(
        "Each layer multiplies the mean square by in · σ² and by what the activation "
        "lets pass.",
        "One half of the y is positive and passes; the other half comes out as a·y. "
        "Which part of the mean square is left?",
        "(1 + a²)/2 is left, so in · σ² · (1 + a²)/2 must be 1.",
    ),
)

# ---- 04.cross_entropy ---------------------------------------------------------------


def _log_softmax(logits, axis=1):
    shifted = logits - logits.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def _one_hot(logits, ids):
    return np.arange(logits.shape[1]) == np.asarray(ids)[:, None]


def _cross_entropy(logits, ids):
    log_p, right = _log_softmax(logits), _one_hot(logits, ids)
    return -log_p[right].mean(), (np.exp(log_p) - right) / len(ids)


def _summed(logits, ids):
    loss, gradient = _cross_entropy(logits, ids)
    return loss * len(ids), gradient * len(ids)


def _not_averaged(logits, ids):
    loss, gradient = _cross_entropy(logits, ids)
    return loss, gradient * len(ids)


def _gradient_is_softmax(logits, ids):
    return _cross_entropy(logits, ids)[0], np.exp(_log_softmax(logits)) / len(ids)


def _in_bits(logits, ids):
    loss, gradient = _cross_entropy(logits, ids)
    return loss / math.log(2), gradient


def _negative(logits, ids):
    loss, gradient = _cross_entropy(logits, ids)
    return -loss, -gradient


def _along_rows(logits, ids):
    log_p, right = _log_softmax(logits, axis=0), _one_hot(logits, ids)
    return -log_p[right].mean(), (np.exp(log_p) - right) / len(ids)


def _unshifted(logits, ids):
    with np.errstate(all="ignore"):
        powers, right = np.exp(logits), _one_hot(logits, ids)
        p = powers / powers.sum(1, keepdims=True)
        return -np.log(p[right]).mean(), (p - right) / len(ids)


def _unshifted_sum(logits, ids, *, divided=False):
    """ln Σ e^z - z[id], and a gradient by the division or from the logarithms."""
    with np.errstate(all="ignore"):
        powers, right = np.exp(logits), _one_hot(logits, ids)
        log_p = logits - np.log(powers.sum(1, keepdims=True))
        p = powers / powers.sum(1, keepdims=True) if divided else np.exp(log_p)
        return -log_p[right].mean(), (p - right) / len(ids)


def _rounded(logits, ids, *, added=0.0):
    """-ln p from a p that may have been rounded to 0."""
    p, right = np.exp(_log_softmax(logits)), _one_hot(logits, ids)
    with np.errstate(divide="ignore"):
        return -np.log(p[right] + added).mean(), (p - right) / len(ids)


def _logits_of(rows, classes):
    def make():
        rng = np.random.default_rng(rows)
        return rng.normal(size=(rows, classes)), rng.integers(0, classes, rows)

    return make


cross_entropy = Exercise(
    name="04.cross_entropy",
    task="Return the mean of -ln softmax(logits)[id] and its gradient by the logits.",
    solution=_cross_entropy,
    cases=(
        Case("by hand", lambda: (np.log([[1.0, 2.0, 5.0]]), np.array([1]))),
        Case("4 rows, 3 classes", _logits_of(4, 3), "gradient"),
        Case("3 rows, 5 classes", _logits_of(3, 5), "gradient"),
        Case("all logits equal", lambda: (np.full((2, 10), 7.0), np.arange(2)), "edge"),
        Case(
            "logits of ±1000",
            lambda: (np.array([[1000.0, 0.0], [-1000.0, 1000.0]]), np.array([1, 1])),
            "edge",
        ),
    ),
    mistakes=(
        Mistake(
            _unshifted,
            "e^1000 is not finite: subtract each row's largest logit first, and take "
            "the logarithm of the sum instead of that of a rounded probability.",
            also=(_unshifted_sum, partial(_unshifted_sum, divided=True)),
        ),
        Mistake(
            _rounded,
            "your gradient is right, but the loss is lost where a probability rounds "
            "to 0 (a small number added to it hides that and is not the loss). Take no "
            "logarithm of a probability: it is ln Σ e^z - z[id], with shifted z.",
            also=tuple(partial(_rounded, added=10.0**-n) for n in (7, 8, 9, 10, 12)),
        ),
        Mistake(_summed, "that is the sum over the rows; the mean is asked for."),
        Mistake(
            _not_averaged,
            "the gradient lacks the 1/N of the mean over the rows.",
        ),
        Mistake(
            _gradient_is_softmax,
            "the gradient is the softmax less 1 at the right class; the 1 is missing.",
        ),
        Mistake(_in_bits, "that loss is in bits; nats take the natural logarithm."),
        Mistake(
            _negative,
            "the sign: minus the logarithm, so a loss is never below 0.",
            also=(lambda *inputs: (_negative(*inputs)[0], _cross_entropy(*inputs)[1]),),
        ),
        Mistake(
            lambda *inputs: (_cross_entropy(*inputs)[0], _negative(*inputs)[1]),
            "the gradient has the wrong sign: it is the softmax less the 1, not the 1 "
            "less the softmax.",
        ),
        Mistake(
            _along_rows,
            "the softmax runs along the wrong axis: each row adds up to 1.",
        ),
    ),
    hints=(
        "ln softmax(z)[t] = z[t] - ln Σ e^z, and z may be shifted by any constant.",
        "With shifted = logits - logits.max(1, keepdims=True), the logarithms of the "
        "probabilities are shifted - log(exp(shifted).sum(1, keepdims=True)).",
        "The gradient of a row is its softmax, less 1 at the right class; then divide "
        "by the number of rows.",
    ),
)

# ---- 04.f1 --------------------------------------------------------------------------


def _scores(predictions, targets):
    hits, called, actual = (predictions * targets).sum(), *_sums(predictions, targets)
    f1 = 2 * hits / (called + actual) if called + actual else 0.0
    return _ratio(hits, called), _ratio(hits, actual), f1


def _sums(predictions, targets):
    return predictions.sum(), targets.sum()


def _ratio(part, whole):
    return part / whole if whole else 0.0


def _swapped(predictions, targets):
    return _scores(targets, predictions)


def _plain_mean(predictions, targets):
    precision, recall, _ = _scores(predictions, targets)
    return precision, recall, (precision + recall) / 2


def _of_class_0(predictions, targets):
    return _scores(1 - predictions, 1 - targets)


def _accuracy_for_precision(predictions, targets):
    _, recall, _ = _scores(predictions, targets)
    precision = (predictions == targets).mean()
    return precision, recall, _ratio(2 * precision * recall, precision + recall)


def _unguarded(predictions, targets):
    with np.errstate(all="ignore"):
        hits, called, actual = (
            (predictions * targets).sum(),
            *_sums(predictions, targets),
        )
        precision, recall = hits / np.float64(called), hits / np.float64(actual)
        return precision, recall, 2 * precision * recall / (precision + recall)


def _pair(predictions, targets):
    return lambda: (np.array(predictions), np.array(targets))


f1 = Exercise(
    name="04.f1",
    task="Return precision, recall and F1 of arrays of 0 and 1.",
    solution=_scores,
    cases=(
        Case("by hand", _pair([1, 1, 1, 0, 0, 1, 0, 0, 0, 0], [1] * 5 + [0] * 5)),
        Case("a rare class", _pair([1, 0, 1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0])),
        Case("all right", _pair([1, 0, 1], [1, 0, 1])),
        Case("nothing called", _pair([0, 0, 0, 0], [0, 1, 0, 1]), "edge"),
        Case("none there", _pair([1, 0, 0], [0, 0, 0]), "edge"),
    ),
    mistakes=(
        Mistake(
            _swapped,
            "precision and recall are exchanged: precision divides by what was called "
            "positive, recall by what is positive.",
        ),
        Mistake(
            _plain_mean,
            "F1 is the harmonic mean, 2PR/(P + R), not the plain one.",
        ),
        Mistake(
            _of_class_0,
            "these are the scores of class 0; the positive class is 1.",
        ),
        Mistake(
            _accuracy_for_precision,
            "your precision is the accuracy: count only what was called positive.",
        ),
        Mistake(
            _unguarded,
            "0/0: where nothing was called (or is) positive, the answer is 0.",
        ),
    ),
    hints=(
        "The true positives are where both hold a 1: (predictions * targets).sum().",
        "Precision divides them by predictions.sum(), recall by targets.sum().",
        "F1 = 2 TP / (predictions.sum() + targets.sum()), and 0 where that sum is 0.",
    ),
)
