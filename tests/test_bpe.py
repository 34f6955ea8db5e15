"""Byte-level BPE: words, merges, training."""

import sys
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_samples import END, TEXT, capped

from minibig.data import BPETokenizer, documentation
from minibig.data.tokenizers.bpe import split_words
from minibig.data.tokenizers.merges import apply_merges, learn_merges, replace_pair


def test_words_are_split_as_gpt2_splits_them():
    text = "I've  seen 3 cats,\n  don't you_see?\u00a0x²"
    assert "|".join(split_words(text)) == (
        "I|'ve| | seen| 3| cats|,|\n | don|'t| you|_|see|?|\u00a0|x|²"
    )


@pytest.mark.parametrize("ending", ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"])
def test_english_contractions_are_words_of_their_own(ending):
    assert split_words(f"x{ending}y {ending}") == ["x", ending, "y", " '", ending[1:]]


def test_letters_numbers_space_and_marks_are_the_unicode_categories():
    groups = {"L": [], "N": [], "Z": [], "other": []}
    for character in map(chr, range(sys.maxunicode + 1)):
        group = unicodedata.category(character)[0]
        if character in "\t\n\v\f\r\x85":
            group = "Z"
        groups.get(group, groups["other"]).append(character)
    letters, numbers, space, marks = ("".join(group) for group in groups.values())
    words = split_words(letters + numbers + marks + space)
    # Lengths only: pytest would compare a million characters for minutes.
    assert [len(w) for w in words] == list(map(len, (letters, numbers, marks, space)))


def test_merges_are_the_most_frequent_pairs_and_ties_go_to_smaller_ids():
    words = [("abab", 2), ("cd", 3), ("xy", 3), ("z", 9)]
    words = [(["abcdxyz".index(c) for c in word], count) for word, count in words]
    tokens, merges = learn_merges("abcdxyz", words, 7 + 4)
    assert merges == [("a", "b"), ("c", "d"), ("x", "y"), ("ab", "ab")]
    assert tokens[7:] == ["ab", "cd", "xy", "abab"]


@capped
@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 9)))
def test_incremental_training_equals_counting_anew_each_time(counts):
    words = {word: ["abc".index(c) for c in word] for word in counts}
    stated = [(words[word], count) for word, count in counts.items()]
    tokens, merges = learn_merges("abc", stated, 3 + 8)
    ids = {token: index for index, token in enumerate(tokens)}
    for left, right in merges:
        pairs = {}
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] = pairs.get(pair, 0) + counts[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        assert best == (ids[left], ids[right]) and pairs[best] >= 2
        for word, pieces in words.items():
            words[word] = replace_pair(pieces, best, ids[left + right])
    ranks = {(ids[a], ids[b]): (rank, ids[a + b]) for rank, (a, b) in enumerate(merges)}
    for word, pieces in words.items():
        assert apply_merges(["abc".index(c) for c in word], ranks) == pieces


def test_a_token_made_in_two_ways_is_one_token():
    merges = [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")]
    tokens = [*BPETokenizer.train("x", 256).tokens, "ab", "abc", "bc"]
    tokenizer = BPETokenizer(tokens, merges)
    assert tokenizer.encode("abc") == [tokens.index("abc")]


def test_a_very_long_word_takes_no_quadratic_time():
    tokenizer = BPETokenizer.train("ab" * 64 + " " + "ab" * 64, 261)
    ids = tokenizer.encode("ab" * 30_000)  # minutes, if each merge read all of it
    assert len(ids) < 5_000 and tokenizer.decode(ids) == "ab" * 30_000


def test_pairs_are_replaced_from_the_left():
    assert replace_pair([1, 1, 1, 2, 1, 1], (1, 1), 5) == [5, 1, 2, 5]


def test_bpe_stops_when_no_pair_occurs_often_enough():
    assert BPETokenizer.train("ab ab cd", 999).vocab_size == 257
    assert BPETokenizer.train("ab ab cd", 999, min_frequency=1).vocab_size > 258


def test_bpe_learns_the_documentation_and_shortens_it():
    text = documentation().text
    tokenizer = BPETokenizer.train(text, 512, special_tokens=[END])
    assert tokenizer.vocab_size == 512
    sample = text[:20_000]
    ids = tokenizer.encode(sample)
    assert tokenizer.decode(ids) == sample and len(ids) < 0.6 * len(sample)


def test_cache_of_words_stays_bounded(monkeypatch):
    monkeypatch.setattr(BPETokenizer, "cache_size", 3)
    tokenizer = BPETokenizer.train(TEXT, 260)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert len(tokenizer._cache) <= 3
