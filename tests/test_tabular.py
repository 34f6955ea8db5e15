"""The bundled sets: the right sizes, fixed splits, nothing leaks from test to train."""

import sys

import numpy as np
import pytest

from minibig.data import breast_cancer, diabetes, digits, stratified_split, wine

pytest.importorskip("sklearn", reason="needs scikit-learn: the extra `data`")
SETS = pytest.mark.parametrize("load", [digits, breast_cancer, wine, diabetes])


@pytest.mark.parametrize(
    ("load", "rows", "features", "classes"),
    [(digits, 1797, 64, 10), (breast_cancer, 569, 30, 2), (wine, 178, 13, 3)],
)
def test_classification_sets_have_their_known_sizes(load, rows, features, classes):
    data = load()
    parts = data.train, data.validation, data.test
    assert sum(len(part.targets) for part in parts) == rows
    assert len(data.feature_names) == features and len(data.target_names) == classes
    for part in parts:
        assert part.features.shape == (len(part.targets), features)
        assert part.features.dtype == np.float32 and part.targets.dtype == np.int64
        assert set(part.targets.tolist()) == set(range(classes))


def test_diabetes_is_a_regression_with_the_same_spread_in_each_part():
    data = diabetes()
    parts = data.train, data.validation, data.test
    assert sum(len(part.targets) for part in parts) == 442
    for part in parts:
        assert part.targets.dtype == np.float32
        assert abs(np.median(part.targets) - np.median(data.train.targets)) < 10


@SETS
def test_parts_are_disjoint_together_all_and_at_their_fractions(load):
    data = load()
    rows = np.concatenate(data.indices)
    assert np.array_equal(np.sort(rows), np.arange(len(rows)))
    for indices, fraction in zip(data.indices, (0.7, 0.15, 0.15), strict=True):
        assert abs(len(indices) - fraction * len(rows)) <= 5


def test_digits_are_ink_from_0_to_1_and_look_like_their_label():
    data = digits()
    assert data.train.features.min() == 0 and data.train.features.max() == 1
    images = data.train.features.reshape(-1, 8, 8)
    zeros = images[data.train.targets == 0].mean(0)
    assert zeros[3:5, 3:5].max() < 0.3 < zeros[2:6, 2].min()  # a hole in the middle


@pytest.mark.parametrize("load", [breast_cancer, wine, diabetes])
def test_features_are_standardised_by_the_training_rows_alone(load):
    data = load()
    assert np.abs(data.train.features.mean(0)).max() < 1e-5
    assert np.abs(data.train.features.std(0) - 1).max() < 1e-5
    assert np.abs(data.test.features.mean(0)).max() > 1e-3


@SETS
def test_a_set_is_kept_and_cannot_be_changed_by_accident(load):
    data = load()
    assert load() is data
    with pytest.raises(ValueError, match="read-only"):
        data.train.features[0] = 0
    assert load.__wrapped__().hash == data.hash
    assert data.hash in repr(data) and repr(data).startswith("TabularData(")


def test_missing_scikit_learn_is_one_clear_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        digits.__wrapped__()


def test_every_class_is_spread_over_the_parts_within_one_row():
    labels = np.repeat(["a", "b", "c"], [10, 33, 57])
    fractions = (0.5, 0.3, 0.2)
    parts = stratified_split(labels, fractions)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(100))
    for rows, fraction in zip(parts, fractions, strict=True):
        assert np.array_equal(rows, np.sort(rows))
        for label, size in zip("abc", (10, 33, 57), strict=True):
            assert abs((labels[rows] == label).sum() - fraction * size) <= 1


def test_a_split_depends_on_its_seed_alone():
    labels = np.arange(60) % 3
    first, again = (stratified_split(labels, (0.5, 0.5)) for _ in range(2))
    other = stratified_split(labels, (0.5, 0.5), seed=1)
    assert np.array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("labels", "fractions", "words"),
    [
        ([0, 1] * 5, (0.5, 0.4), "sum to 1"),
        ([0, 1] * 5, (1.5, -0.5), "positive"),
        ([0, 1] * 5, 1.0, "positive and sum"),
        ([[0, 1]], (0.5, 0.5), r"1-d .* \(1, 2\)"),
        ([], (0.5, 0.5), "not empty"),
        ([0, 0, 0, 0, 1], (0.5, 0.5), "class 1 has 1 rows"),
    ],
)
def test_a_split_that_cannot_be_is_refused(labels, fractions, words):
    with pytest.raises(ValueError, match=words):
        stratified_split(labels, fractions)
