"""Batches for training and evaluation, each a pure function of the step.

`loader.batch(step)` can be asked for in any order and always gives the same arrays: a
run that is resumed needs to know its step and nothing else. An epoch has `len(loader)`
batches, `iter(loader)` goes through the first one, and the order within epoch e depends
on (seed, e) alone. Targets that must not count are -100, as in PyTorch.
"""

import functools

import numpy as np

from .. import random
from ..checks import switch, whole
from .fingerprint import fingerprint

IGNORE = -100  # cross_entropy's default ignore_index


class Loader:
    """What all loaders share; a subclass has `_count`, `_data`, `_examples(which)`."""

    drop_last = False
    shuffle = True

    def __init__(self, *, batch_size, seed=0):
        self.batch_size = whole("batch_size", batch_size, 1)
        self.seed = whole("seed", seed, 0)
        self._order = None, None  # the last epoch asked for, and its permutation

    @functools.cached_property
    def hash(self):
        """16 hexadecimal digits that change with the data, not with their order."""
        return fingerprint(*self._data)

    def __len__(self):
        """Batches in an epoch."""
        whole, rest = divmod(self._count, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self):
        """The batches of epoch 0."""
        return map(self.batch, range(len(self)))

    def batch(self, step):
        """The arrays of one batch; steps beyond an epoch run into the next ones."""
        epoch, position = divmod(whole("step", step, 0), len(self))
        first = position * self.batch_size
        which = np.arange(first, min(first + self.batch_size, self._count))
        return self._examples(
            self._permutation(epoch)[which] if self.shuffle else which
        )

    def _permutation(self, epoch):
        if self._order[0] != epoch:
            order = random.at("batches", epoch, self.seed).permutation(self._count)
            self._order = epoch, order
        return self._order[1]


class RandomCrops(Loader):
    """Crops of a long text, drawn anew for each batch: (inputs, targets).

    Both (B, T) int64, targets one token ahead. An epoch has as many crops as it takes
    to cover the text once, ⌈(tokens - 1) / T⌉; their places are independent and
    uniform, so some tokens come twice in it and some not at all. Needs T + 1 tokens.
    """

    def __init__(self, ids, *, context_length, batch_size, seed=0):
        super().__init__(batch_size=batch_size, seed=seed)
        self.context_length = whole("context_length", context_length, 1)
        self._ids = compact_ids(ids)
        self._data = (self._ids,)
        if len(self._ids) < self.context_length + 1:
            raise ValueError(
                f"the text has {len(self._ids)} tokens, but context_length "
                f"{self.context_length} needs at least {self.context_length + 1}; "
                "use a longer text or a shorter context"
            )
        self._count = -(-(len(self._ids) - 1) // self.context_length)

    def batch(self, step):
        """Inputs and targets, both (B, T), of one batch; every batch is full."""
        generator = random.at("crops", whole("step", step, 0), self.seed)
        places = len(self._ids) - self.context_length
        starts = generator.integers(0, places, self.batch_size)
        crops = self._ids[starts[:, None] + np.arange(self.context_length + 1)]
        crops = crops.astype(np.int64)  # (B, T + 1)
        return crops[:, :-1].copy(), crops[:, 1:].copy()


class Windows(Loader):
    """A whole text in non-overlapping windows, in order: (inputs, targets).

    Both (B, T) int64. For evaluation: every token but the first is a target exactly
    once. The last window is filled up with input 0 and target -100, and the last batch
    may have fewer rows. Needs two tokens.
    """

    shuffle = False

    def __init__(self, ids, *, context_length, batch_size):
        super().__init__(batch_size=batch_size)
        self.context_length = whole("context_length", context_length, 1)
        self._ids = compact_ids(ids)
        self._data = (self._ids,)
        if len(self._ids) < 2:
            raise ValueError(
                f"the text has {len(self._ids)} tokens, but predicting one from "
                "another needs at least 2"
            )
        self._count = -(-(len(self._ids) - 1) // self.context_length)

    def _examples(self, which):
        places = which[:, None] * self.context_length + np.arange(self.context_length)
        valid = places < len(self._ids) - 1  # (B, T)
        places = np.where(valid, places, 0)
        inputs = np.where(valid, self._ids[places].astype(np.int64), 0)
        targets = np.where(valid, self._ids[places + 1].astype(np.int64), IGNORE)
        return inputs, targets


class Documents(Loader):
    """One document a row, each once an epoch: (inputs, targets), both (B, T) int64.

    A row reads begin, document and predicts document, end (no end where `end_id` is
    None). T is the longest row of the batch; shorter rows are filled up with `pad_id`
    (default `begin_id`) and target -100. The last batch may have fewer rows. Raises
    `ValueError` when a document needs more than `context_length` places.
    """

    def __init__(
        self,
        documents,
        *,
        context_length,
        batch_size,
        begin_id,
        end_id=None,
        pad_id=None,
        seed=0,
        shuffle=True,
    ):
        super().__init__(batch_size=batch_size, seed=seed)
        self.context_length = whole("context_length", context_length, 1)
        self.begin_id = whole("begin_id", begin_id, 0)
        end = [] if end_id is None else [whole("end_id", end_id, 0)]
        end = np.array(end, np.int64)
        pad_id = begin_id if pad_id is None else pad_id
        self.pad_id = whole("pad_id", pad_id, 0)
        self.shuffle = switch("shuffle", shuffle)
        if not hasattr(documents, "__iter__"):
            raise TypeError(
                f"documents are a list of lists of ids, not {type(documents).__name__}"
            )
        rows = [compact_ids(ids, f"document {n}") for n, ids in enumerate(documents)]
        self._count = len(rows)
        lengths = np.array([len(row) for row in rows], np.int64) + len(end)
        self._check_lengths(lengths)
        self._ends = np.cumsum(lengths)
        self._ids = compact_ids(np.concatenate([a for row in rows for a in (row, end)]))
        self._data = self._ids, self._ends

    def _check_lengths(self, lengths):
        if not len(lengths):
            raise ValueError("there are no documents")
        if lengths.min() == 0:
            raise ValueError(
                f"document {lengths.argmin()} is empty: nothing to predict"
            )
        if lengths.max() > self.context_length:
            raise ValueError(
                f"document {lengths.argmax()} needs {lengths.max()} places, its begin "
                f"or end token included, but context_length is {self.context_length}; "
                "use a longer context or split the document"
            )

    def _examples(self, which):
        starts = np.where(which > 0, self._ends[which - 1], 0)
        lengths = self._ends[which] - starts
        columns = np.arange(lengths.max())
        valid = columns < lengths[:, None]  # (B, T)
        places = np.where(valid, starts[:, None] + columns, 0)
        targets = np.where(valid, self._ids[places].astype(np.int64), IGNORE)
        inputs = np.full_like(targets, self.begin_id)
        inputs[:, 1:] = np.where(valid[:, 1:], targets[:, :-1], self.pad_id)
        return inputs, targets


class ArrayBatches(Loader):
    """Rows of one or more arrays, features and labels say: a tuple of arrays.

    Each row comes once an epoch. The last batch may have fewer rows; `drop_last`
    leaves it out. The arrays keep their dtypes.
    """

    def __init__(self, *arrays, batch_size, seed=0, shuffle=True, drop_last=False):
        super().__init__(batch_size=batch_size, seed=seed)
        if not arrays:
            raise ValueError("ArrayBatches needs at least one array")
        self._data = tuple(np.asarray(array) for array in arrays)
        if any(array.dtype.hasobject for array in self._data):
            raise TypeError("ArrayBatches takes arrays of numbers, got Python objects")
        self.shuffle = switch("shuffle", shuffle)
        self.drop_last = switch("drop_last", drop_last)
        shapes = [array.shape for array in self._data]
        if () in shapes or len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"the arrays differ in their number of rows: {shapes}")
        self._count = shapes[0][0]
        if len(self) == 0:
            raise ValueError(
                f"{self._count} rows make no batch of {self.batch_size}"
                + "; use a smaller batch_size or drop_last=False" * (self._count > 0)
            )

    def _examples(self, which):
        return tuple(array[which] for array in self._data)


def compact_ids(ids, name="ids"):
    """A 1-d array of token ids in the smallest unsigned integer type that holds them.

    Raises `TypeError` for what is not a 1-d sequence of integers, `ValueError` for a
    negative id.
    """
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} must be a 1-d sequence of integers, got shape {array.shape} of "
            f"dtype {array.dtype}; encode text with a tokenizer first"
        )
    if array.size == 0:
        return np.zeros(0, np.uint8)
    if array.min() < 0:
        raise ValueError(f"{name} hold the negative id {array.min()}")
    return array.astype(np.min_scalar_type(array.max()))
