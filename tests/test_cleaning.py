"""Cleaning: what goes, what stays, what counts as the same, and one scale for all."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibig.data import (
    Standardizer,
    clean_text,
    deduplicate,
    near_duplicates,
    remove_boilerplate,
)

# ---- text ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "café"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("\ufeffzero\u200bwidth and soft\u00adhyphen", "zerowidth and softhyphen"),
        ("bell\x07 null\x00 half\ud800", "bell null half"),
        ("  a\u00a0\u3000 b\t c \n  d", "a b c\nd"),
        ("\n\na\n\n\n \n\nb\n\n", "a\n\nb"),
        ("e\u200b\u0301", "é"),  # what stood between them goes first
        ("ﬁ x² №", "ﬁ x² №"),
        ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),
        ("", ""),
    ],
)
def test_clean_text_by_hand(text, expected):
    assert clean_text(text) == expected


def test_compatibility_form_spells_out():
    assert clean_text("ﬁ x² № Ａ", "NFKC") == "fi x2 No A"


@given(st.text(st.characters()), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_cleaning_twice_changes_nothing_more(text, form):
    once = clean_text(text, form)
    assert clean_text(once, form) == once
    assert unicodedata.is_normalized(form, once)
    assert "  " not in once and "\n\n\n" not in once and "\r" not in once
    once.encode("utf-8")  # no half surrogate pairs


def test_lines_of_most_texts_go_and_others_stay():
    texts = ["(c) 2001\none\n\nend", " (c) 2001 \ntwo\ntwo\n\nend", "three\n\nmiddle"]
    assert remove_boilerplate(texts) == ["one\n", "two\ntwo\n", "three\n\nmiddle"]
    assert remove_boilerplate(texts, 0.7) == texts
    assert remove_boilerplate(["alone"], 0.0) == ["alone"]
    assert remove_boilerplate([]) == []


def test_similarity_by_hand():
    a, b = "the cat sat on the mat", "The  cat sat on a mat"
    # 4 runs of 3 words each, 2 in common, 6 in all
    assert near_duplicates([a, "", b], 0.3) == [(0, 2, pytest.approx(1 / 3))]
    assert near_duplicates([a, b], 0.34) == []
    assert near_duplicates([a, b], 0.5, n=1) == [(0, 1, pytest.approx(5 / 6))]


def test_short_texts_are_one_run():
    texts = ["Yes", "yes ", "no", "", " ", "oh yes"]
    assert near_duplicates(texts, 1) == [(0, 1, 1.0), (3, 4, 1.0)]


def test_near_duplicates_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(60)]

    def runs(text):
        words = text.split()
        return {tuple(words[i : i + 2]) for i in range(max(len(words) - 1, 1))}

    expected = []
    for j, text in enumerate(texts):
        for i, other in enumerate(texts[:j]):
            a, b = runs(other), runs(text)
            if len(a & b) / len(a | b) >= 0.5:
                expected.append((i, j, len(a & b) / len(a | b)))
    assert near_duplicates(texts, 0.5, n=2) == expected and len(expected) > 50


def test_first_of_each_group_is_kept_and_no_two_alike():
    # b is like a, c is like b but not like a: a and c stay.
    a, b, c = "1 2 3 4 5 6", "2 3 4 5 6 7", "3 4 5 6 7 8"
    assert deduplicate([a, b, c, a, "other"], 0.6, n=1) == [0, 2, 4]
    kept = [a, c, "other"]
    assert near_duplicates(kept, 0.6, n=1) == []
    assert deduplicate([], 0.5) == []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: clean_text(b"x"), "clean_text: text must be a str, not bytes"),
        (lambda: clean_text("x", "NFX"), 'form is one of "NFC"'),
        (lambda: remove_boilerplate("x"), "texts must be a list or tuple, not str"),
        (lambda: near_duplicates(["x", None]), "each text must be a str"),
        (lambda: deduplicate(["x"], 0), "similarity must be .* not 0"),
        (lambda: deduplicate(["x"], n=0), "n must be a whole number of at least 1"),
    ],
)
def test_what_is_no_text_is_refused(call, text):
    with pytest.raises((TypeError, ValueError), match=text):
        call()


# ---- columns ------------------------------------------------------------------------


def test_training_rows_get_mean_0_and_deviation_1_and_others_the_same_scale():
    rng = np.random.default_rng(0)
    train = rng.normal(50, 7, (200, 3))
    scale = Standardizer(train)
    done = scale(train)
    np.testing.assert_allclose(done.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(done.std(0), 1)
    other = rng.normal(60, 7, (5, 3))
    np.testing.assert_allclose(scale(other), (other - train.mean(0)) / train.std(0))


def test_by_hand():
    scale = Standardizer([[1, 10], [3, 30]])
    assert scale.mean.tolist() == [2, 20] and scale.scale.tolist() == [1, 10]
    assert scale([[4, 0]]).tolist() == [[2, -2]]


def test_constant_column_is_centred_only():
    train = np.full((7, 2), [0.1, 3.0], np.float32)  # seven times 0.1 has no mean 0.1
    scale = Standardizer(train)
    assert (scale(train) == 0).all()
    np.testing.assert_allclose(scale(train + np.float32(1)), 1, rtol=1e-6)


def test_precision_of_the_rows_is_kept():
    train = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert Standardizer(train)(train).dtype == np.float32
    assert Standardizer(train)(train.astype(int)).dtype == np.float64


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (np.ones(3), "rows of numbers"),
        ([["a"]], "rows of numbers"),
        (np.ones((0, 3)), "at least one training row"),
        ([[1.0, np.nan], [np.inf, 2.0]], r"columns \[0, 1\]"),
    ],
)
def test_rows_without_statistics_are_refused(rows, text):
    with pytest.raises(ValueError, match=text):
        Standardizer(rows)


def test_other_columns_are_refused():
    scale = Standardizer(np.eye(3))
    with pytest.raises(ValueError, match="knows 3 columns, but these rows have 2"):
        scale(np.ones((1, 2)))
