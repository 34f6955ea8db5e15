"""Metrics against values worked out by hand and against scikit-learn."""

import math

import numpy as np
import pytest

from minibig.training import metrics

PREDICTIONS = [0, 1, 1, 2, 2, 2]
TARGETS = [0, 1, 2, 2, 2, 0]


def test_accuracy_is_the_share_of_hits():
    assert metrics.accuracy(PREDICTIONS, TARGETS) == 4 / 6


def test_confusion_matrix_has_true_classes_in_rows():
    matrix = metrics.confusion_matrix(PREDICTIONS, TARGETS)
    assert matrix.tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 2]]
    assert metrics.confusion_matrix([0], [0], num_classes=2).tolist() == [
        [1, 0],
        [0, 0],
    ]


def test_precision_recall_and_f1_by_hand():
    predictions, targets = [1, 1, 1, 0, 0], [1, 0, 0, 1, 0]
    assert metrics.precision(predictions, targets) == 1 / 3
    assert metrics.recall(predictions, targets) == 1 / 2
    assert metrics.f1(predictions, targets) == pytest.approx(2 / 5)


def test_averages_by_hand():
    each = metrics.precision(PREDICTIONS, TARGETS, average=None)
    assert each.tolist() == [1, 1 / 2, 2 / 3]
    macro = metrics.precision(PREDICTIONS, TARGETS, average="macro")
    assert macro == pytest.approx(13 / 18)
    assert metrics.precision(PREDICTIONS, TARGETS, average="micro") == 4 / 6


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize("average", ["binary", "macro", "micro", None])
def test_averages_equal_scikit_learn(name, average, seed):
    oracle = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(seed)
    classes = 2 if average == "binary" else int(draw.integers(2, 9))
    predictions, targets = draw.integers(0, classes, (2, int(draw.integers(1, 40))))
    for num_classes in (None, classes + 2):
        got = getattr(metrics, name)(
            predictions, targets, average=average, num_classes=num_classes
        )
        labels = None if num_classes is None else range(num_classes)
        expected = getattr(oracle, f"{name}_score")(
            targets,
            predictions,
            average=average,
            labels=None if average == "binary" else labels,
            zero_division=0.0,
        )
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_accuracy_and_confusion_equal_scikit_learn(seed):
    oracle = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(seed)
    predictions, targets = draw.integers(0, 6, (2, 30))
    assert metrics.accuracy(predictions, targets) == pytest.approx(
        oracle.accuracy_score(targets, predictions), abs=1e-15
    )
    np.testing.assert_array_equal(
        metrics.confusion_matrix(predictions, targets, num_classes=7),
        oracle.confusion_matrix(targets, predictions, labels=range(7)),
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zero_division_is_the_value_asked_for(value):
    assert metrics.precision([0, 0], [1, 0], zero_division=value) == value
    assert metrics.recall([1, 0], [0, 0], zero_division=value) == value
    assert metrics.f1([0, 0], [0, 0], zero_division=value) == value


def test_sequences_booleans_and_objects_with_numpy_are_taken():
    class Wrapped:
        def numpy(self):
            return np.array([[1, 0], [1, 1]])

    assert metrics.accuracy(Wrapped(), [[1, 0], [0, 1]]) == 3 / 4
    assert metrics.recall(np.array([True, False]), np.array([True, True])) == 1 / 2
    assert metrics.f1(np.uint8([1, 200]), np.uint8([1, 200]), average="macro") == 1


def test_perplexity_is_exp_of_the_mean_in_nats():
    assert metrics.perplexity(math.log(8)) == pytest.approx(8)
    assert metrics.perplexity([math.log(2), math.log(8)]) == pytest.approx(4)
    assert metrics.perplexity(np.float32(0)) == 1
    assert metrics.perplexity(-1e-7) == pytest.approx(1)


def test_perplexity_overflows_to_infinity_without_a_warning():
    assert metrics.perplexity(1e4) == math.inf
    assert metrics.perplexity(np.float32(1e4)) == math.inf
    assert math.isnan(metrics.perplexity(math.nan))


@pytest.mark.parametrize(
    ("call", "error", "facts"),
    [
        (lambda: metrics.accuracy([1, 2], [1]), ValueError, ["(2,)", "(1,)"]),
        (
            lambda: metrics.accuracy(np.zeros((4, 3)), np.zeros(4, int)),
            ValueError,
            ["(4, 3)", "argmax"],
        ),
        (lambda: metrics.accuracy([], []), ValueError, ["nothing", "(0,)"]),
        (lambda: metrics.f1([0.9], [1]), TypeError, ["predictions", "float64"]),
        (lambda: metrics.f1([1], [1.0]), TypeError, ["targets", "float64"]),
        (lambda: metrics.recall([1], [-100]), IndexError, ["targets", "-100"]),
        (
            lambda: metrics.confusion_matrix([7], [1], num_classes=5),
            IndexError,
            ["7", "num_classes is 5"],
        ),
        (lambda: metrics.precision([4], [1]), ValueError, ["class 4", "'macro'"]),
        (
            lambda: metrics.precision([1], [1], average="weighted"),
            ValueError,
            ["'weighted'", "'micro'"],
        ),
        (lambda: metrics.perplexity([]), ValueError, ["at least one"]),
        (lambda: metrics.perplexity(-3.0), ValueError, ["-3", "log-prob"]),
    ],
)
def test_mistakes_are_named(call, error, facts):
    with pytest.raises(error) as caught:
        call()
    for fact in facts:
        assert fact in str(caught.value)
