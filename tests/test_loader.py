"""Loaders: every batch a pure function of the step, every example where it belongs."""

import sys
from collections import Counter

import numpy as np
import pytest

from minibig import random
from minibig.data import ArrayBatches, Documents, RandomCrops, Windows
from minibig.data.fingerprint import fingerprint

IDS = np.arange(1000)
DOCUMENTS = [[10 + n] * (1 + n % 5) for n in range(23)]


def crops(**changes):
    settings = {"context_length": 8, "batch_size": 4, "seed": 3} | changes
    return RandomCrops(IDS, **settings)


def windows(**changes):
    return Windows(IDS, **({"context_length": 8, "batch_size": 4} | changes))


def documents(rows=DOCUMENTS, **changes):
    settings = {"context_length": 8, "batch_size": 4, "begin_id": 1, "end_id": 2}
    return Documents(rows, **(settings | changes))


def arrays(**changes):
    return ArrayBatches(IDS[:23], IDS[:23] % 2, **({"batch_size": 4} | changes))


LOADERS = pytest.mark.parametrize("make", [crops, windows, documents, arrays])


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@LOADERS
def test_any_batch_equals_the_one_iteration_reaches(make):
    loader = make()
    batches = list(loader)
    assert len(batches) == len(loader)
    for step in reversed(range(len(loader))):
        assert same(make().batch(step), batches[step])
        assert same(loader.batch(step), batches[step])
    assert loader.hash == make().hash and len(loader.hash) == 16


@pytest.mark.parametrize("make", [crops, documents, arrays])
def test_epochs_and_seeds_differ_and_the_global_seed_plays_no_role(make):
    loader = make()
    first = np.concatenate([batch[0].ravel() for batch in loader])
    steps = range(len(loader), 2 * len(loader))
    second = np.concatenate([loader.batch(step)[0].ravel() for step in steps])
    other = np.concatenate([batch[0].ravel() for batch in make(seed=4)])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)
    state = random.get_state()
    random.seed(99)
    assert same(make().batch(5), loader.batch(5))
    random.set_state(state)


@LOADERS
def test_batches_are_the_callers_own(make):
    loader = make()
    kept = [array.copy() for array in loader.batch(1)]
    for array in loader.batch(1):
        array[:] = 7
    assert same(loader.batch(1), kept)


def test_crops_are_pieces_of_the_text_with_the_next_token_as_target():
    loader = crops()
    seen = set()
    for step in range(200):
        inputs, targets = loader.batch(step)
        assert inputs.shape == targets.shape == (4, 8)
        assert inputs.dtype == targets.dtype == np.int64
        assert np.array_equal(targets, inputs + 1)
        assert np.array_equal(inputs, inputs[:, :1] + np.arange(8))
        seen |= set(inputs[:, 0].tolist())
    assert min(seen) < 20 and max(seen) > 970 and len(seen) > 500
    assert len(loader) == -(-999 // (8 * 4))


def test_the_first_and_last_crop_of_a_text_are_reached():
    loader = RandomCrops([5, 6, 7, 8], context_length=2, batch_size=50)
    inputs, targets = loader.batch(0)
    assert set(inputs[:, 0].tolist()) == {5, 6}
    assert set(targets[:, -1].tolist()) == {7, 8}
    whole = RandomCrops([5, 6, 7], context_length=2, batch_size=2)
    assert np.array_equal(whole.batch(0)[1], [[6, 7], [6, 7]])


def test_windows_predict_every_token_but_the_first_once():
    text = np.random.default_rng(0).integers(0, 50, 103)
    loader = Windows(text, context_length=8, batch_size=4)
    inputs, targets = (np.concatenate(parts) for parts in zip(*loader, strict=True))
    assert inputs.shape == targets.shape == (13, 8)
    valid = targets != -100
    assert np.array_equal(targets[valid], text[1:])
    assert np.array_equal(inputs[valid], text[:-1])
    assert valid.sum() == 102 and not valid[-1, 6:].any()


def test_windows_repeat_the_same_order_every_epoch():
    loader = windows()
    assert same(loader.batch(0), loader.batch(len(loader)))


@pytest.mark.parametrize("tokens", [2, 8, 9, 10, 17])
def test_windows_count_is_right_at_every_length(tokens):
    loader = Windows(range(tokens), context_length=8, batch_size=1)
    assert len(loader) == -(-(tokens - 1) // 8)
    assert sum((targets != -100).sum() for _, targets in loader) == tokens - 1


def rows_of(loader, epoch=0):
    """Each row's document, read back from inputs and targets."""
    found = []
    for step in range(epoch * len(loader), (epoch + 1) * len(loader)):
        for inputs, targets in zip(*loader.batch(step), strict=True):
            length = (targets != -100).sum()
            assert (targets[:length] != -100).all()
            assert inputs[0] == 1
            assert np.array_equal(inputs[1:length], targets[: length - 1])
            assert (inputs[length:] == loader.pad_id).all()
            found.append(tuple(targets[:length].tolist()))
    return found


def test_every_document_comes_once_an_epoch_between_begin_and_end():
    loader = documents(pad_id=0)
    expected = Counter((*row, 2) for row in DOCUMENTS)
    for epoch in range(3):
        assert Counter(rows_of(loader, epoch)) == expected
    assert len(loader) == 6
    assert [len(batch[0]) for batch in loader] == [4, 4, 4, 4, 4, 3]


def test_documents_without_end_token_or_shuffling_keep_their_order():
    loader = documents(end_id=None, shuffle=False)
    assert rows_of(loader) == [tuple(row) for row in DOCUMENTS]
    assert loader.pad_id == 1


def test_a_batch_of_documents_is_as_wide_as_its_longest_row():
    loader = documents([[3], [3, 4, 5], [6]], batch_size=2, shuffle=False)
    assert [batch[0].shape for batch in loader] == [(2, 4), (1, 2)]
    exact = documents([[3] * 7], batch_size=1)
    assert exact.batch(0)[0].shape == (1, 8)


def test_ids_are_kept_in_the_smallest_type():
    assert RandomCrops([0, 255], context_length=1, batch_size=1)._ids.dtype == np.uint8
    assert crops()._ids.dtype == np.uint16
    big = RandomCrops([0, 70_000], context_length=1, batch_size=1)
    assert big._ids.dtype == np.uint32 and big.batch(0)[1] == 70_000


def test_array_batches_keep_rows_together_and_dtypes():
    features = np.arange(46, dtype=np.float32).reshape(23, 2)
    labels = np.arange(23)
    loader = ArrayBatches(features, labels, batch_size=5, seed=1)
    x, y = (np.concatenate(parts) for parts in zip(*loader, strict=True))
    assert x.dtype == np.float32 and y.dtype == np.int64
    assert np.array_equal(x, features[y]) and sorted(y) == list(range(23))
    assert not np.array_equal(y, labels)
    assert len(loader) == 5


def test_array_batches_can_keep_the_order_and_drop_the_rest():
    loader = arrays(shuffle=False, drop_last=True)
    assert len(loader) == 5
    assert np.array_equal(np.concatenate([batch[0] for batch in loader]), IDS[:20])
    assert same(loader.batch(5), loader.batch(0))


@LOADERS
@pytest.mark.parametrize("step", [-1, 1.0, True, "1", None])
def test_a_step_is_a_whole_number(make, step):
    error = ValueError if step in (-1, 1.0) and step is not True else TypeError
    with pytest.raises(error, match="step must be a whole number of at least 0"):
        make().batch(step)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: crops(batch_size=0), ValueError, "batch_size .* at least 1, not 0"),
        (lambda: crops(context_length=2.5), ValueError, "context_length .* 2.5"),
        (lambda: crops(seed=-1), ValueError, "seed"),
        (lambda: crops(context_length=1000), ValueError, "1000 tokens.*least 1001"),
        (lambda: crops(context_length=sys.maxsize), ValueError, "at least"),
        (
            lambda: RandomCrops("text", context_length=2, batch_size=1),
            TypeError,
            "encode text with a tokenizer",
        ),
        (
            lambda: RandomCrops([0.0, 1.0, 2.0], context_length=2, batch_size=1),
            TypeError,
            "float64",
        ),
        (
            lambda: RandomCrops([[0, 1]], context_length=1, batch_size=1),
            TypeError,
            r"\(1, 2\)",
        ),
        (
            lambda: RandomCrops([True, False], context_length=1, batch_size=1),
            TypeError,
            "bool",
        ),
        (
            lambda: RandomCrops([3, -1], context_length=1, batch_size=1),
            ValueError,
            "negative id -1",
        ),
        (
            lambda: RandomCrops([], context_length=1, batch_size=1),
            ValueError,
            "0 tokens",
        ),
        (
            lambda: Windows([7], context_length=4, batch_size=1),
            ValueError,
            "1 tokens.*at least 2",
        ),
        (lambda: documents([]), ValueError, "no documents"),
        (
            lambda: documents([[3], [3] * 8]),
            ValueError,
            "document 1 needs 9 places.*context_length is 8",
        ),
        (lambda: documents([[3], []], end_id=None), ValueError, "document 1 is empty"),
        (lambda: documents([[3], [0.5]]), TypeError, "document 1 must be"),
        (lambda: documents(begin_id=None), TypeError, "begin_id"),
        (lambda: documents(end_id=-2), ValueError, "end_id"),
        (lambda: documents(pad_id="x"), TypeError, "pad_id"),
        (lambda: ArrayBatches(batch_size=1), ValueError, "at least one"),
        (
            lambda: ArrayBatches(np.zeros(3), np.zeros(4), batch_size=1),
            ValueError,
            r"\(3,\), \(4,\)",
        ),
        (lambda: ArrayBatches(np.float32(1), batch_size=1), ValueError, "rows"),
        (lambda: ArrayBatches([], batch_size=1), ValueError, "0 rows make no batch"),
        (
            lambda: arrays(batch_size=24, drop_last=True),
            ValueError,
            "smaller batch_size",
        ),
        (lambda: ArrayBatches([{}], batch_size=1), TypeError, "Python objects"),
    ],
)
def test_bad_input_is_named_before_any_work(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_hash_tells_data_apart_and_not_their_layout():
    assert crops().hash == crops(batch_size=2, seed=9).hash
    assert documents().hash != documents(DOCUMENTS[1:]).hash
    assert documents([[3, 4], [5]]).hash != documents([[3], [4, 5]]).hash
    array = np.arange(6.0).reshape(2, 3)
    assert fingerprint(array) == fingerprint(np.asfortranarray(array))
    assert fingerprint(array) == fingerprint(array.astype(">f8"))
    assert fingerprint(array) != fingerprint(array.reshape(3, 2))
    assert fingerprint(array) != fingerprint(array.astype(np.float32))
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
