"""How good predictions are: accuracy, precision, recall, F1, confusion, perplexity.

Predictions and targets are ids (integers or booleans from 0) of one shape, predictions
first as in `F.cross_entropy`; take `logits.argmax(-1)` before. Anything with a
`.numpy()` method serves as well as an array. The definitions are scikit-learn's.
"""

import numpy as np

from .. import checks


def accuracy(predictions, targets):
    """The share of predictions that equal their target, from 0 to 1."""
    predictions, targets = _ids(predictions, targets)
    return float((predictions == targets).mean())


def precision(
    predictions, targets, *, average="binary", num_classes=None, zero_division=0.0
):
    """Of what was predicted as a class, the share that is of it: TP / (TP + FP).

    average: "binary", class 1 among 0 and 1; "macro", the mean over the classes, each
    weighing the same; "micro", one ratio of all counts; None, an array, one a class.
    The classes are those that occur, in order, or 0 … num_classes - 1 where that is
    given. A class never predicted counts as `zero_division`, without a warning.
    """
    hits, predicted, _ = _counts(predictions, targets, average, num_classes)
    return _averaged(hits, predicted, average, zero_division)


def recall(
    predictions, targets, *, average="binary", num_classes=None, zero_division=0.0
):
    """Of what is of a class, the share that was predicted so: TP / (TP + FN).

    `average` and `num_classes` as in `precision`; a class that never occurs among the
    targets counts as `zero_division`.
    """
    hits, _, actual = _counts(predictions, targets, average, num_classes)
    return _averaged(hits, actual, average, zero_division)


def f1(predictions, targets, *, average="binary", num_classes=None, zero_division=0.0):
    """The harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN).

    `average` and `num_classes` as in `precision`; a class that neither occurs nor was
    predicted counts as `zero_division`.
    """
    hits, predicted, actual = _counts(predictions, targets, average, num_classes)
    return _averaged(2 * hits, predicted + actual, average, zero_division)


def confusion_matrix(predictions, targets, *, num_classes=None):
    """Counts (C, C): rows are the true classes, columns the predicted ones.

    C is num_classes, or one more than the largest id.
    """
    predictions, targets = _ids(predictions, targets, num_classes)
    if num_classes is None:
        num_classes = 1 + int(max(predictions.max(), targets.max()))
    cells = np.bincount(targets * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)  # (C, C)


def perplexity(losses):
    """exp of the mean of `losses` in nats (cross-entropies); inf where that overflows.

    1 is certainty; V is as good as a uniform guess among V tokens.
    """
    losses = _array(losses)
    if losses.dtype.kind not in "fiu":
        raise TypeError(f"perplexity takes losses, numbers, not {losses.dtype}")
    losses = losses.astype(np.float64)
    if losses.size == 0:
        raise ValueError("perplexity needs at least one loss; got none")
    mean = losses.mean()
    if mean < -1e-3:  # rounding may leave a perfect model just below 0
        raise ValueError(
            f"perplexity takes cross-entropies, which are not negative; their mean is "
            f"{mean:.4g}; change the sign of log-probabilities"
        )
    with np.errstate(over="ignore"):
        return float(np.exp(mean))


def _counts(predictions, targets, average, num_classes):
    """Per class: predicted rightly, predicted at all, and there at all."""
    if average not in ("binary", "macro", "micro", None):
        raise ValueError(
            f"average={average!r} is unknown; use 'binary', 'macro', 'micro' or None"
        )
    predictions, targets = _ids(predictions, targets, num_classes)
    if average == "binary":
        num_classes, highest = 2, max(predictions.max(), targets.max())
        if highest > 1:
            raise ValueError(
                f"average='binary' is for classes 0 and 1, but there is a class "
                f"{highest}; pass average='macro', 'micro' or None"
            )
    if num_classes is None:  # number the classes that occur
        classes, both = np.unique([predictions, targets], return_inverse=True)
        num_classes, (predictions, targets) = len(classes), both.reshape(2, -1)
    counts = (
        np.bincount(ids, minlength=num_classes)  # (C,)
        for ids in (targets[predictions == targets], predictions, targets)
    )
    return tuple(c[1:] for c in counts) if average == "binary" else tuple(counts)


def _averaged(hits, of, average, zero_division):
    if average == "micro":
        hits, of = hits.sum(keepdims=True), of.sum(keepdims=True)
    ratios = np.full(len(of), checks.number("zero_division", zero_division), float)
    np.divide(hits, of, out=ratios, where=of > 0)
    return ratios if average is None else float(ratios.mean())


def _array(values):
    return np.asarray(values.numpy() if hasattr(values, "numpy") else values)


def _ids(predictions, targets, num_classes=None):
    """Both as flat int64 arrays, checked."""
    predictions, targets = _array(predictions), _array(targets)
    if num_classes is not None:
        checks.whole("num_classes", num_classes, 1)
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions {predictions.shape} and targets {targets.shape} must have "
            "one shape; of logits take argmax(-1) first"
        )
    if predictions.size == 0:
        raise ValueError(f"nothing to measure: predictions are {predictions.shape}")
    checked = []
    for name, ids in (("predictions", predictions), ("targets", targets)):
        if ids.dtype.kind not in "iub":
            raise TypeError(
                f"{name} are {ids.dtype}, not ids; of logits take argmax(-1) first, of "
                "probabilities > 0.5"
            )
        low, high = int(ids.min()), int(ids.max())
        if low < 0:
            raise IndexError(f"{name} hold {low}; leave ignored positions out first")
        if num_classes is not None and high >= num_classes:
            raise IndexError(f"{name} hold {high}, but num_classes is {num_classes}")
        checked.append(ids.reshape(-1).astype(np.int64))
    return checked
