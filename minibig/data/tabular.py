"""Small labelled sets that come with scikit-learn, split once and for all.

Every reader gets the same training, validation and test rows: 70, 15 and 15 % of each
class, chosen by a seed that is fixed here. Compare models on validation, and look at
the test rows last.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .. import random
from .cleaning import Standardizer
from .fingerprint import fingerprint

_FRACTIONS = (0.7, 0.15, 0.15)


class Split(NamedTuple):
    """features (N, F) float32 and targets (N,): int64 classes or float32 values."""

    features: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True, repr=False)
class TabularData:
    """A labelled set in three parts (read-only), with names of columns and classes."""

    name: str
    train: Split
    validation: Split
    test: Split
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    indices: tuple[np.ndarray, ...]  # the parts' rows in the original set
    hash: str  # of the original values and the split

    def __repr__(self):
        parts = (self.train, self.validation, self.test)
        rows = " + ".join(str(len(part.targets)) for part in parts)
        return (
            f"TabularData({self.name!r}: {rows} rows, {len(self.feature_names)} "
            f"features, hash {self.hash})"
        )


@functools.cache
def digits():
    """1,797 handwritten digits of 8x8 pixels, 0 (paper) to 1 (ink), and their classes.

    features (N, 64), row by row: `features.reshape(-1, 1, 8, 8)` are images. From the
    UCI set "Optical Recognition of Handwritten Digits".
    """
    raw = _load("digits")
    return _classification("digits", raw, lambda features, _: features / 16)


@functools.cache
def breast_cancer():
    """569 tumours, 30 measurements each, malignant (0) or benign (1).

    Features are standardised: (x - mean) / deviation, both of the training rows. From
    the UCI set "Breast Cancer Wisconsin (Diagnostic)".
    """
    return _classification("breast_cancer", _load("breast_cancer"), _standardised)


@functools.cache
def wine():
    """178 wines, 13 chemical measurements each, from 3 growers (the classes).

    Features are standardised as in `breast_cancer`. From the UCI set "Wine".
    """
    return _classification("wine", _load("wine"), _standardised)


@functools.cache
def diabetes():
    """442 patients, 10 measurements each, and the disease's progress after a year.

    Regression: targets are float32, 25 to 346. Features are standardised as in
    `breast_cancer`; the parts are stratified by the tenths of the target. From Efron et
    al., "Least Angle Regression" (2004).
    """
    raw = _load("diabetes", scaled=False)
    tenths = np.quantile(raw.target, np.linspace(0.1, 0.9, 9))
    groups = np.searchsorted(tenths, raw.target)
    targets = raw.target.astype(np.float32)
    return _dataset("diabetes", raw, targets, groups, ("progression",), _standardised)


def stratified_split(labels, fractions, seed=0):
    """Index arrays, one a fraction: disjoint, sorted, together all rows.

    Every class is spread over the parts in these fractions, within one row of each. A
    pure function of its arguments. Raises `ValueError` when fractions do not add up to
    1, or a class has too few rows to stand in every part.
    """
    labels, fractions = np.asarray(labels), np.asarray(fractions, np.float64)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"labels must be 1-d and not empty, got shape {labels.shape}")
    if fractions.ndim != 1 or (fractions <= 0).any() or abs(fractions.sum() - 1) > 1e-9:
        raise ValueError(f"fractions must be positive and sum to 1, got {fractions}")
    parts = [[] for _ in fractions]
    for number, label in enumerate(np.unique(labels)):
        rows = np.flatnonzero(labels == label)
        rows = random.at("split", number, seed).permutation(rows)
        cuts = np.rint(np.cumsum(fractions)[:-1] * len(rows)).astype(int)
        for part, piece in zip(parts, np.split(rows, cuts), strict=True):
            if not len(piece):
                raise ValueError(
                    f"class {label} has {len(rows)} rows, too few for each of the "
                    f"parts {fractions.tolist()}"
                )
            part.append(piece)
    return tuple(np.sort(np.concatenate(part)) for part in parts)


def _load(name, **settings):
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{name} comes with scikit-learn, which is not installed: "
            "pip install scikit-learn"
        ) from error
    return getattr(datasets, f"load_{name}")(**settings)


def _classification(name, raw, scale):
    targets = raw.target.astype(np.int64)
    target_names = tuple(map(str, raw.target_names))
    return _dataset(name, raw, targets, targets, target_names, scale)


def _dataset(name, raw, targets, groups, target_names, scale):
    indices = stratified_split(groups, _FRACTIONS)
    features = scale(raw.data, indices[0]).astype(np.float32)
    parts = [Split(features[rows], targets[rows]) for rows in indices]
    for array in (*indices, *(array for part in parts for array in part)):
        array.flags.writeable = False  # the set is kept: nobody may change it
    names = tuple(map(str, raw.feature_names))
    # The original values: scaled ones can differ in the last bit between machines.
    digest = fingerprint(raw.data, raw.target, *indices)
    return TabularData(name, *parts, names, target_names, indices, digest)


def _standardised(features, training_rows):
    return Standardizer(features[training_rows])(features)
