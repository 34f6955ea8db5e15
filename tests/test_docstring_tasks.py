"""Two sets of docstrings: what stands in them, and what never stands on two sides."""

import platform
from collections import Counter

import numpy as np
import pytest

from minibig.data import docstring_tasks, real_or_shuffled, which_library
from minibig.data.docstring_tasks import BLANK, LIBRARIES, PAD

PARTS = "train", "validation", "test"


def bag(text):
    return tuple(sorted(text.split()))


def long_words(text):
    return frozenset(word for word in text.split() if len(word) >= 4)


@pytest.fixture(scope="module", params=[real_or_shuffled, which_library])
def texts(request):
    return request.param()


def test_only_the_order_tells_a_real_sentence_from_a_shuffled_one():
    pairs = real_or_shuffled()
    for part in PARTS:
        written, (ids, targets) = pairs.texts[part], getattr(pairs, part)
        assert targets.tolist() == [1, 0] * (len(written) // 2)
        for real, shuffled in zip(written[::2], written[1::2], strict=True):
            assert bag(real) == bag(shuffled) and real != shuffled
        np.testing.assert_array_equal(np.sort(ids[::2]), np.sort(ids[1::2]))


def test_sentences_are_running_text():
    real = [text for part in PARTS for text in real_or_shuffled().texts[part][::2]]
    assert len(real) > 10_000
    for text in real:
        assert text == text.lower() and "'" not in text and "." not in text
        assert len(text.split()) <= 24 and len(set(text.split())) >= 6
    assert Counter(text.split()[0] for text in real).most_common(1)[0][0] == "the"


def test_libraries_are_balanced_in_every_part():
    libraries = which_library()
    assert libraries.target_names == LIBRARIES
    for part, least in zip(PARTS, (110, 20, 20), strict=True):
        counts = np.bincount(getattr(libraries, part).targets)
        assert len(counts) == len(LIBRARIES) and len(set(counts.tolist())) == 1
        assert counts[0] >= least
    assert sum(len(libraries.texts[part]) for part in PARTS) > 1200


def test_no_text_names_its_library():
    libraries, blanks = which_library(), 0
    names = {part for name in LIBRARIES for part in name.split(".")}
    for text in (text for part in PARTS for text in libraries.texts[part]):
        words = text.split()
        blanks += words.count(BLANK)
        assert len(words) - words.count(BLANK) >= 5 and len(words) <= 40
        assert not any(name in text for name in names)
        # modules of asyncio, email, logging, scipy.sparse; alone and in the plural
        told = {"event", "events", "queues", "header", "headers", "handler", "handlers"}
        assert not told & set(words) and "csr" not in words
    assert blanks > 500


def test_no_text_or_near_duplicate_stands_twice(texts):
    step = (
        2 if texts.name == "real_or_shuffled" else 1
    )  # there each stands shuffled too
    keys = [long_words(text) for part in PARTS for text in texts.texts[part][::step]]
    assert len(set(keys)) == len(keys)


def test_sentences_of_one_docstring_are_in_one_part():
    part_of = {
        text: part for part in PARTS for text in real_or_shuffled().texts[part][::2]
    }
    parts_of = {}  # docstring → the part of each sentence that it is the first to have
    for package in ("standard library", "numpy", "scipy"):
        for _, docstring in docstring_tasks._docstrings(package):
            for words in docstring_tasks._sentences(docstring):
                part = part_of.pop(" ".join(words), None)
                if part:
                    parts_of.setdefault(docstring, []).append(part)
    assert not part_of
    assert all(len(set(parts)) == 1 for parts in parts_of.values())
    assert sum(len(parts) > 1 for parts in parts_of.values()) > 2000


def test_ids_are_the_texts_and_padding(texts):
    for part in PARTS:
        ids, targets = getattr(texts, part)
        assert ids.dtype == targets.dtype == np.int64
        assert ids.shape == (len(texts.texts[part]), ids.shape[1])
        for row in range(0, len(ids), 100):
            text = texts.texts[part][row]
            real = ids[row][ids[row] != texts.pad_id]
            np.testing.assert_array_equal(real, texts.tokenizer.encode(text))
            np.testing.assert_array_equal(real, ids[row, : len(text.split())])
        with pytest.raises(ValueError, match="read-only"):
            ids[0, 0] = 0


def test_vocabulary_is_what_two_training_texts_have(texts):
    step = 2 if texts.name == "real_or_shuffled" else 1
    counts = Counter(w for t in texts.texts["train"][::step] for w in t.split())
    known = {" " + word for word, count in counts.items() if count > 1}
    assert set(texts.tokenizer.tokens) == known | {"<unk>", PAD, " "}


def test_a_set_says_what_it_was_read_from(texts):
    assert platform.python_version() in repr(texts) and texts.hash in repr(texts)
    assert "scipy 1." in texts.versions and len(texts.hash) == 16


def test_a_set_is_the_same_when_it_is_made_again():
    kept, made = which_library(), which_library.__wrapped__()
    assert made.hash == kept.hash
    np.testing.assert_array_equal(made.test.features, kept.test.features)
