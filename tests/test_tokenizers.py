"""Tokenizers: what goes in comes out, ids are stable, bad input is named."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_samples import (
    ALL,
    BPE,
    CHARS,
    END,
    PIECES,
    TEXT,
    WORDS,
    capped,
    unicode_text,
)

from minibig.data import (
    AddedToken,
    BPETokenizer,
    CharTokenizer,
    Template,
    WordPieceTokenizer,
    WordTokenizer,
)
from minibig.data.tokenizers.bpe import split_words
from minibig.data.tokenizers.merges import rank_merges
from minibig.data.tokenizers.patterns import find_words


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
@given(st.lists(st.integers(0, BPE.vocab_size - 1), max_size=12))
def test_stream_of_parts_is_what_decode_gives(ids):
    for tokenizer in (BPE, CHARS, WORDS, PIECES):
        known = [index % tokenizer.vocab_size for index in ids]
        for skip in (False, True):
            parts = tokenizer.decode_stream(iter(known), skip_special_tokens=skip)
            assert "".join(parts) == tokenizer.decode(known, skip_special_tokens=skip)
    whole = b"".join(BPE.decode_bytes([i]) for i in ids if i != BPE.vocab_size - 1)
    text = BPE.decode(ids, skip_special_tokens=True)
    if BPE.vocab_size - 1 not in ids:
        assert text == whole.decode(errors="replace")


def test_stream_waits_for_the_last_byte_of_a_character():
    ids = BPE.encode_bytes("a日b".encode())
    assert "".join(BPE.decode_stream(ids[:2])) == "a\ufffd"
    parts = [part for part in BPE.decode_stream(ids) if part]
    assert parts == ["a", "日", "b"]


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
    with pytest.raises(
        ValueError, match=r"word 'zebra' is not in this vocabulary of 3"
    ):
        closed.encode("the zebra")


def test_added_tokens_can_take_the_white_space_around_them():
    mask = AddedToken("<m>", lstrip=True, rstrip=True)
    tokenizer = CharTokenizer([*"ab \n", "<m>"], [mask])
    assert tokenizer.encode("a \n<m>  b <m><m> a") == [0, 4, 1, 4, 4, 0]


def test_added_tokens_that_are_not_special_are_never_skipped():
    tokenizer = CharTokenizer([*"ab", "<x>"], [AddedToken("<x>", special=False)])
    assert tokenizer.special_tokens == {}
    assert tokenizer.decode([0, 2], skip_special_tokens=True) == "a<x>"


def test_normalized_added_tokens_are_sought_in_the_cleaned_text():
    for normalized in (False, True):
        added = AddedToken("The", normalized=normalized)
        tokenizer = WordPieceTokenizer([*PIECES.tokens, "The"], ["[UNK]", added])
        found = [tokenizer.encode(text)[-1] for text in ("The", "thé")]
        index = PIECES.vocab_size
        assert found == ([index] * 2 if normalized else [index, *PIECES._ids("the")])


def test_max_size_keeps_the_most_frequent_words():
    tokenizer = WordTokenizer.train("b b b a a c", max_size=4)
    assert tokenizer.tokens == ("<unk>", " ", " b", " a")


def test_prefix_space_makes_the_first_word_like_the_others():
    tokenizer = BPETokenizer(BPE.tokens, BPE.merges, [END], add_prefix_space=True)
    assert tokenizer.encode("the") == BPE.encode(" the") == tokenizer.encode(" the")
    assert tokenizer.encode(f"{END}the")[1:] == BPE.encode(" the")


def test_other_patterns_cut_other_words():
    assert find_words(r"\p{Lu}?\p{Ll}+|[\p{N}]{1,3}", "OneTwo 12345ß漢 ") == [
        "One", "Two", " ", "123", "45", "ß", "漢 ",
    ]  # fmt: skip


def test_ranking_the_merges_of_a_large_vocabulary_takes_no_time():
    # Once each merge was compared with the whole vocabulary: a minute for this one.
    letters = [chr(0x4E00 + n) for n in range(250)]
    merges = [(left, right) for left in letters for right in letters]
    tokens = [*letters, *map("".join, merges)]
    ids = {token: index for index, token in enumerate(tokens)}
    began = time.perf_counter()
    ranks = rank_merges(merges, ids)
    assert time.perf_counter() - began < 5
    assert ranks[0, 1] == (1, 251) and len(ranks) == 62_500


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


def with_pattern(pattern, **settings):
    return BPETokenizer(BPE.tokens, BPE.merges, [END], pattern=pattern, **settings)


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
        (lambda: with_pattern("a*"), ValueError, "empty"),
        (lambda: with_pattern("(a)"), ValueError, "capturing"),
        (lambda: with_pattern("[a"), ValueError, "not valid"),
        (lambda: with_pattern("a\\"), ValueError, "not valid"),
        (lambda: with_pattern(r"\w+"), ValueError, r"\\\\w"),
        (lambda: with_pattern(r"[^\S]"), ValueError, r"\\\\S"),
        (lambda: with_pattern(r"\p{Han}+"), ValueError, r"\\\\p\{Han\}"),
        (lambda: with_pattern(r"\P{L}+"), ValueError, r"\\\\P"),
        (lambda: with_pattern("(?m:.)"), ValueError, "flag"),
        (lambda: with_pattern(r"[a&&b]"), ValueError, "'&'"),
        (lambda: with_pattern("a", add_prefix_space=True), ValueError, "GPT-2's"),
        (lambda: with_pattern("a", normal_form="NFX"), ValueError, "NFX"),
        (lambda: WordPieceTokenizer("ab"), ValueError, r"unknown token '\[UNK\]'"),
        (lambda: WordPieceTokenizer.train("abc", 7), ValueError, "at least 10"),
        (lambda: WordPieceTokenizer.train("", 99), ValueError, "empty text"),
        (
            lambda: WordPieceTokenizer.train("a", 9, special_tokens=["x"]),
            ValueError,
            r"special_tokens lack one of .*CLS",
        ),
        (lambda: PIECES.encode("a", max_length=1), ValueError, "max_length 1"),
        (lambda: CHARS.encode_batch("cat"), TypeError, "use encode"),
        (
            lambda: CharTokenizer("a", template=Template.parse("! $A", "! $A $B")),
            ValueError,
            "template tokens missing",
        ),
        (lambda: BPETokenizer([*BPE.tokens, "日"], []), ValueError, "'日'"),
        (lambda: BPETokenizer(BPE.tokens, [("q", "q")]), ValueError, "'qq'"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


@ALL
def test_repr_names_size_and_special_tokens(tokenizer):
    text = repr(tokenizer)
    assert text.startswith(type(tokenizer).__name__)
    assert str(tokenizer.vocab_size) in text and END in text
