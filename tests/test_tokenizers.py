"""Tokenizers: what goes in comes out, ids are stable, bad input is named."""

import json
import os
import subprocess
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibig.data import (
    BPETokenizer,
    CharTokenizer,
    WordTokenizer,
    documentation,
    load_tokenizer,
)
from minibig.data.bpe import learn_merges, replace_pair, split_words
from minibig.files import FileError

END = "<|endoftext|>"
TEXT = "the cat sat on the mat, and the dog didn't. " * 3 + "\n\tin 1984 – 日本語 ²½!"
BPE = BPETokenizer.train(TEXT, 279, special_tokens=[END])
CHARS = CharTokenizer.train(TEXT, special_tokens=[END])
WORDS = WordTokenizer.train(TEXT, special_tokens=[END])
ALL = pytest.mark.parametrize(
    "tokenizer", [BPE, CHARS, WORDS], ids=lambda t: str(t)[:5]
)
unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
capped = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@ALL
def test_training_text_comes_back(tokenizer):
    text = TEXT + END + " " + TEXT
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(np.array(ids)) == text
    assert all(type(index) is int for index in ids)
    assert max(ids) < tokenizer.vocab_size == len(tokenizer.tokens)
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""


@capped
@given(unicode_text)
def test_bpe_gives_back_any_unicode(text):
    assert "".join(split_words(text)) == text
    ids = BPE.encode(text)
    assert BPE.decode(ids) == text
    assert BPE.decode_bytes(ids) == text.encode()


@capped
@given(st.binary(max_size=60))
def test_bpe_gives_back_any_bytes(data):
    assert BPE.decode_bytes(BPE.encode_bytes(data)) == data


@capped
@given(st.text(alphabet="tha .\n'é_", max_size=40))
def test_words_and_characters_give_back_any_text_of_their_vocabulary(text):
    words = WordTokenizer.train(text + " ", unknown=False)
    assert words.decode(words.encode(text)) == text
    characters = CharTokenizer.train(text + " ")
    assert characters.decode(characters.encode(text)) == text


def test_bytes_and_text_of_the_same_content_have_the_same_ids():
    assert BPE.encode_bytes(TEXT.encode()) == BPE.encode(TEXT)


def test_half_a_character_decodes_to_the_replacement_character():
    ids = BPE.encode_bytes("日".encode()[:2])
    assert BPE.decode(ids) == "\ufffd"


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
    counts = {b"abab": 2, b"cd": 3, b"xy": 3, b"z": 9}
    tokens, merges = learn_merges(counts, 256 + 4)
    assert merges == [(b"a", b"b"), (b"c", b"d"), (b"x", b"y"), (b"ab", b"ab")]
    assert tokens[256:] == [b"ab", b"cd", b"xy", b"abab"]


@capped
@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 9)))
def test_incremental_training_equals_counting_anew_each_time(counts):
    counts = {word.encode(): count for word, count in counts.items()}
    tokens, merges = learn_merges(counts, 256 + 8)
    ids = {token: index for index, token in enumerate(tokens)}
    words = {word: [ids[bytes([byte])] for byte in word] for word in counts}
    for left, right in merges:
        pairs = {}
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] = pairs.get(pair, 0) + counts[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        assert best == (ids[left], ids[right]) and pairs[best] >= 2
        for word, pieces in words.items():
            words[word] = replace_pair(pieces, best, ids[left + right])


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
    monkeypatch.setattr("minibig.data.bpe._CACHE_SIZE", 3)
    tokenizer = BPETokenizer.train(TEXT, 260)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert len(tokenizer._cache) <= 3


@pytest.mark.oracle
def test_training_and_ids_equal_the_tokenizers_library():
    tokenizers = pytest.importorskip("tokenizers")
    text = documentation().text[:100_000]
    ours = BPETokenizer.train(text, 600)
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = byte_level
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600,
        min_frequency=2,
        initial_alphabet=byte_level.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([text], trainer)
    vocabulary = theirs.get_vocab()
    assert list(ours.tokens) == sorted(vocabulary, key=vocabulary.get)
    for sample in (text, TEXT, "a\x1cb \u3000  x'sé\u0301 ᾳ Ⅷ²٣\r\n\n"):
        assert ours.encode(sample) == theirs.encode(sample).ids


@ALL
def test_special_tokens_are_one_id_and_can_be_skipped(tokenizer):
    end = tokenizer.special_tokens[END]
    ids = tokenizer.encode(f"the{END}{END}cat")
    assert ids.count(end) == 2
    assert tokenizer.decode(ids) == f"the{END}{END}cat"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "thecat"


def test_the_longer_of_two_special_tokens_is_found_first():
    tokenizer = CharTokenizer.train("ab", special_tokens=["<e>", "<e>>"])
    assert tokenizer.encode("<e>>a") == [tokenizer.special_tokens["<e>>"], 0]


def test_training_never_looks_inside_special_tokens():
    assert CharTokenizer.train(f"ab{END}ab", special_tokens=[END]).tokens == (
        *"ab",
        END,
    )


def test_a_word_is_the_same_token_at_the_start_and_inside():
    ids = WORDS.encode("the cat, the")
    assert ids[0] == ids[-1] and len(ids) == 4


def test_unknown_words_become_the_unknown_token_or_an_error():
    assert WORDS.decode(WORDS.encode("the zebra")) == "the<unk>"
    closed = WordTokenizer.train("the cat", unknown=False)
    with pytest.raises(ValueError, match=r"' zebra' is not in this vocabulary of 3"):
        closed.encode("the zebra")


def test_max_size_keeps_the_most_frequent_words():
    tokenizer = WordTokenizer.train("b b b a a c", max_size=4)
    assert tokenizer.tokens == ("<unk>", " ", " b", " a")


@ALL
def test_saved_tokenizer_loads_equal(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    loaded = load_tokenizer(tmp_path / "t.json")
    assert type(loaded) is type(tokenizer) and loaded.hash == tokenizer.hash
    assert loaded.tokens == tokenizer.tokens
    assert loaded.special_tokens == tokenizer.special_tokens
    assert loaded.encode(TEXT + END) == tokenizer.encode(TEXT + END)
    assert os.listdir(tmp_path) == ["t.json"]


def test_hash_tells_vocabularies_and_merges_apart():
    fewer = BPETokenizer(BPE.tokens, BPE.merges[:-1], [END])
    assert len({BPE.hash, fewer.hash, CHARS.hash, WORDS.hash}) == 4
    assert BPE.hash == BPETokenizer.train(TEXT, 279, special_tokens=[END]).hash


def test_hashes_do_not_depend_on_the_process():
    program = (
        "from minibig.data import *; from minibig.data.tabular import *\n"
        "text = documentation().text[:20000]\n"
        "print(BPETokenizer.train(text, 400).hash, WordTokenizer.train(text).hash)\n"
        "print(CharTokenizer.train(text).hash, statements('json').hash)\n"
        "print(docstrings('json').split()[1].hash, Windows([1, 2], context_length=1,\n"
        "batch_size=1).hash, stratified_split([0, 1] * 9, (0.5, 0.5)))\n"
    )
    outputs = set()
    for seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": seed}
        outputs.add(
            subprocess.run(
                [sys.executable, "-c", program],
                env=environment,
                cwd=Path(__file__).parent.parent,
                capture_output=True,
                check=True,
            ).stdout
        )
    assert len(outputs) == 1 and len(outputs.pop()) > 80


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: CHARS.encode("cat Ω"), ValueError, r"'Ω' \(U\+03A9, position 4\)"),
        (lambda: CHARS.encode(b"cat"), TypeError, "string, got bytes"),
        (lambda: BPE.encode("a\ud800"), ValueError, r"U\+D800 at position 1"),
        (lambda: BPE.decode([0, 279]), IndexError, "id 279 .* 279 tokens"),
        (lambda: BPE.decode_bytes([-1]), IndexError, "id -1"),
        (lambda: CHARS.decode([0.5]), TypeError, "float64"),
        (lambda: CHARS.decode([[0]]), TypeError, r"\(1, 1\)"),
        (lambda: CHARS.decode(0), TypeError, r"shape \(\)"),
        (lambda: CharTokenizer.train(""), ValueError, "empty text"),
        (lambda: WordTokenizer.train([]), ValueError, "empty text"),
        (lambda: BPETokenizer.train(END, 300, special_tokens=[END]), ValueError, "emp"),
        (lambda: BPETokenizer.train("a\udc80", 300), ValueError, "surrogate"),
        (lambda: BPETokenizer.train(b"ab", 300), TypeError, "bytes"),
        (lambda: BPETokenizer.train(7, 300), TypeError, "int"),
        (lambda: BPETokenizer.train([7], 300), TypeError, "int"),
        (lambda: BPETokenizer.train("ab", 255), ValueError, "at least 256"),
        (
            lambda: BPETokenizer.train("ab", 256, special_tokens=[END]),
            ValueError,
            "1 special tokens need at least 257",
        ),
        (
            lambda: BPETokenizer.train("ab", 256, min_frequency=0),
            ValueError,
            "min_frequency",
        ),
        (lambda: BPETokenizer.train("a", 300, special_tokens=END), ValueError, "list"),
        (lambda: CharTokenizer("ab", ["c"]), ValueError, r"missing .*'c'"),
        (lambda: CharTokenizer("aba"), ValueError, "'a' stands .* twice"),
        (lambda: CharTokenizer(["ab"]), ValueError, "'ab' is not one character"),
        (lambda: CharTokenizer("ab", ["a", "a"]), ValueError, "distinct"),
        (lambda: WordTokenizer.train("a b", max_size=2), ValueError, "no room"),
        (lambda: BPETokenizer("ab", []), ValueError, "254 of the 256 bytes"),
        (lambda: BPETokenizer([*BPE.tokens, "日"], []), ValueError, "'日'"),
        (lambda: BPETokenizer(BPE.tokens, [("q", "q")]), ValueError, "'qq'"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def damaged(**changes):
    contents = {
        "format": "minibig.tokenizer",
        "version": 1,
        "type": "BPETokenizer",
        "tokens": list(BPE.tokens),
        "special_tokens": [END],
        "merges": [" ".join(merge) for merge in BPE.merges],
    }
    return json.dumps(contents | changes).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (damaged()[:-9], "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "lacks"),
        (b'{"version": "1.0", "model": {}}', 'lacks "format"'),
        (damaged(version=2), "version 2"),
        (damaged(type="Trie"), "'Trie'"),
        (damaged(type=["CharTokenizer"]), "known are"),
        (damaged(tokens=7), '"tokens" is not a list of strings'),
        (damaged(tokens=[1, 2]), '"tokens" is not a list of strings'),
        (damaged(tokens=[*BPE.tokens, "a"]), "twice"),
        (damaged(tokens=["a"], special_tokens=[], merges=[]), "lacks 255"),
        (damaged(special_tokens=None), '"special_tokens" is not'),
        (damaged(special_tokens=["<x>"]), "<x>"),
        (damaged(merges={}), '"merges" is not'),
        (damaged(merges=["a"]), "'a' is not two tokens"),
        (damaged(merges=["a b c"]), "not two tokens"),
        (damaged(merges=["q q"]), "'qq'"),
        (damaged(type="CharTokenizer"), "not one character"),
    ],
)
def test_damaged_file_is_refused_with_its_name(data, words, tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(data)
    with pytest.raises(FileError, match=words) as caught:
        load_tokenizer(path)
    assert "t.json" in str(caught.value)


def test_missing_file_is_the_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path / "none.json")


@ALL
def test_repr_names_size_and_special_tokens(tokenizer):
    text = repr(tokenizer)
    assert text.startswith(type(tokenizer).__name__)
    assert str(tokenizer.vocab_size) in text and END in text
