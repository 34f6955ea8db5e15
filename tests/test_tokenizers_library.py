"""Ids, texts and learnt merges against the library `tokenizers`, where it is there."""

import json
import sys
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minibig.data import (
    BPETokenizer,
    CharTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    documentation,
    library_source,
    load_tokenizer,
)
from minibig.data.tokenizers.added import AddedToken
from minibig.data.tokenizers.patterns import BERT, GPT2, find_matches, find_words
from tests.references.make_tokenizers import SAMPLES, cases, results

lib = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.oracle

# The library's tables of BERT's characters are of Unicode 8, its patterns of 16, ours
# of the running Python; what these agree on is what has long been as it is.
OLD = unicodedata.ucd_3_2_0
EVERY_CHARACTER = [
    chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000
]
thousand = settings(max_examples=1000, deadline=None, derandomize=True, database=None)
fewer = settings(thousand, max_examples=150)
# Much white space and punctuation, all kinds of letters, and words that are tokens.
texts = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
        st.text(" \n\t.,'s_-ab1é", max_size=6),
        st.sampled_from(
            ["the", " fox", "<e>", "<m>", "[MASK]", "FOX", "lazy", "▁", "'ll"]
        ),
    ),
    max_size=8,
).map("".join)


def old(character):
    """Whether Unicode 3.2 knew a character, in its category of today."""
    return OLD.category(character) == unicodedata.category(character) != "Cn"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(ours, the library's) of every kind of file."""
    path = tmp_path_factory.mktemp("tokenizers") / "tokenizer.json"
    pairs = {}
    for name, contents in cases().items():
        path.write_text(contents, "utf-8")
        pairs[name] = load_tokenizer(path), lib.Tokenizer.from_str(contents)
    return pairs


@thousand
@given(text=texts, other=texts)
def test_ids_and_texts_are_the_librarys_on_any_text(both, text, other):
    text, other = ("".join(filter(old, t)) for t in (text, other))
    for name, (ours, theirs) in both.items():
        ids = theirs.encode(text).ids
        assert ours.encode(text) == ids, name
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False), name
        assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids), name
        pair = theirs.encode(text, other)
        assert [*ours.encode_pair(text, other)] == [
            pair.ids, pair.type_ids, pair.attention_mask,
        ], name  # fmt: skip


@pytest.mark.parametrize("name", ["gpt2", "llama 3", "bert, uncased", "llama 2"])
def test_ids_are_the_librarys_on_a_megabyte(both, name):
    ours, theirs = both[name]
    text = (documentation().text + library_source().text)[:1_000_000]
    # As arrays: pytest would compare long lists for minutes.
    assert np.array_equal(ours.encode(text), theirs.encode(text).ids)


def test_any_ids_decode_as_in_the_library(both):
    rng = np.random.default_rng(0)
    for name, (ours, theirs) in both.items():
        for _ in range(200):
            ids = rng.integers(0, ours.vocab_size, rng.integers(1, 12)).tolist()
            for skip in (False, True):
                text = ours.decode(ids, skip_special_tokens=skip)
                assert text == theirs.decode(ids, skip_special_tokens=skip), name


@fewer
@given(texts, texts, st.integers(4, 12))
def test_pairs_are_cut_as_in_the_library(both, first, second, length):
    ours, theirs = both["bert, uncased"]
    first, second = ("".join(filter(old, t)) for t in (first, second))
    theirs.enable_truncation(length)
    expected = [theirs.encode(first), theirs.encode(first, second)]
    theirs.no_truncation()
    assert ours.encode(first, max_length=length) == expected[0].ids
    assert ours.encode_pair(first, second, max_length=length).ids == expected[1].ids


def test_every_character_is_cut_as_in_the_library():
    theirs = lib.pre_tokenizers.Split(lib.Regex(GPT2), "isolated")
    assigned = [c for c in EVERY_CHARACTER if unicodedata.category(c) != "Cn"]
    # Between a letter and a digit each kind of character is cut in its own way.
    text = "".join(f"a{character}1" for character in assigned)
    expected = [word for word, _ in theirs.pre_tokenize_str(text)]
    assert find_words(GPT2, text) == expected


@pytest.mark.parametrize(
    "flag", ["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"]
)
def test_every_character_is_cleaned_as_in_the_library(flag):
    off = dict.fromkeys(
        ["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"], False
    )
    theirs = lib.normalizers.BertNormalizer(**off | {flag: True})
    ours = WordPieceTokenizer(["[UNK]"], **off | {flag: True})
    text = "|".join(f"a{character}b" for character in filter(old, EVERY_CHARACTER))
    expected = theirs.normalize_str(text).split("|")
    for found, wanted in zip(ours.normalize(text).split("|"), expected, strict=True):
        assert found == wanted


def test_every_character_is_punctuation_or_not_as_in_the_library():
    theirs = lib.pre_tokenizers.BertPreTokenizer()
    text = "".join(f"a{character}1 " for character in filter(old, EVERY_CHARACTER))
    expected = [word for word, _ in theirs.pre_tokenize_str(text)]
    assert find_matches(BERT, text) == expected


def byte_level():
    return lib.pre_tokenizers.ByteLevel(add_prefix_space=False)


def learnt_by_the_library(texts, vocab_size):
    """The tokens and merges that the library's trainer finds."""
    tokenizer = lib.Tokenizer(lib.models.BPE())
    tokenizer.pre_tokenizer = byte_level()
    trainer = lib.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=byte_level().alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]


def test_bpe_learns_what_the_library_learns():
    text = documentation().text[:100_000]
    ours = BPETokenizer.train(text, 600)
    tokens, merges = learnt_by_the_library([text], 600)
    assert list(ours.tokens) == tokens
    assert [list(merge) for merge in ours.merges] == merges


@fewer
@given(st.lists(st.text("ab", min_size=1, max_size=12), min_size=1, max_size=12))
def test_bpe_learns_what_the_library_learns_from_repetitive_words(words):
    text = " ".join(words)
    ours = BPETokenizer.train(text, 280)
    tokens, merges = learnt_by_the_library([text], 280)
    assert list(ours.tokens) == tokens
    assert [list(merge) for merge in ours.merges] == merges


@fewer
@given(st.data())
def test_merges_in_any_order_are_applied_as_in_the_library(data):
    pieces = ["a", "b", "ab", "ba", "aa", "aba", "bab", "abab", "aab"]
    possible = [(x, y) for x in pieces for y in pieces if x + y in pieces]
    merges = data.draw(st.lists(st.sampled_from(possible), max_size=14))
    tokens = [*BPETokenizer.train("x", 256).tokens, *pieces[2:]]
    ours = BPETokenizer(tokens, merges)
    model = lib.models.BPE(dict(ours.token_to_id), merges)
    theirs = lib.Tokenizer(model)
    theirs.pre_tokenizer = byte_level()
    word = data.draw(st.text("ab", max_size=16))
    assert ours.encode(word) == theirs.encode(word).ids


def test_wordpiece_learns_almost_what_the_library_learns():
    # Theirs numbers characters in the order of a hash table: ties fall otherwise.
    text = documentation().text[:200_000]
    ours = WordPieceTokenizer.train(text, 1500)
    theirs = lib.Tokenizer(lib.models.WordPiece(unk_token="[UNK]"))
    theirs.normalizer = lib.normalizers.BertNormalizer()
    theirs.pre_tokenizer = lib.pre_tokenizers.BertPreTokenizer()
    trainer = lib.trainers.WordPieceTrainer(
        vocab_size=1500, special_tokens=list(ours.tokens[:5]), show_progress=False
    )
    theirs.train_from_iterator([text], trainer)
    assert len(set(ours.tokens) & theirs.get_vocab().keys()) > 0.99 * 1500


OURS = [
    BPETokenizer.train(SAMPLES[4], 300, special_tokens=["<e>"]),
    WordPieceTokenizer.train(SAMPLES[4], 150),
    CharTokenizer.train(
        [*SAMPLES, "".join(map(chr, range(128)))], special_tokens=["<e>"]
    ),
    WordTokenizer.train(SAMPLES[4], special_tokens=["<e>"]),
]


@pytest.mark.parametrize("ours", OURS, ids=lambda t: type(t).__name__)
def test_the_library_reads_what_we_write(ours, tmp_path):
    path = tmp_path / "tokenizer.json"
    ours.save(path)
    theirs = lib.Tokenizer.from_file(str(path))
    assert theirs.get_vocab() == ours.token_to_id
    found = results(theirs, SAMPLES)
    assert found["ids"] == ours.encode_batch(SAMPLES)
    for two, pair in zip(pairwise(SAMPLES), found["pairs"], strict=True):
        assert [*ours.encode_pair(*two)] == pair
    for ids, text in zip(found["ids"], found["texts"], strict=True):
        if not isinstance(ours, WordTokenizer):  # ours drops a space after each "<e>"
            assert ours.decode(ids) == text


def test_the_library_refuses_the_unknown_where_we_do(tmp_path):
    for kind in (CharTokenizer.train("ab"), WordTokenizer.train("ab", unknown=False)):
        kind.save(tmp_path / "tokenizer.json")
        theirs = lib.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        with pytest.raises(ValueError, match="not in this vocabulary"):
            kind.encode("abc")
        with pytest.raises(Exception, match="UNK"):
            theirs.encode("abc")


def test_the_library_reads_our_vocab_txt_and_merges_txt(tmp_path):
    OURS[0].save_vocabulary(tmp_path)
    files = [str(tmp_path / name) for name in ("vocab.json", "merges.txt")]
    theirs = lib.ByteLevelBPETokenizer(*files)
    assert theirs.encode(SAMPLES[4]).ids == OURS[0].encode(SAMPLES[4])
    OURS[1].save_vocabulary(tmp_path)
    theirs = lib.BertWordPieceTokenizer(str(tmp_path / "vocab.txt"))
    assert theirs.encode(SAMPLES[4]).ids == OURS[1].encode(SAMPLES[4])


# ---- where we depart ----------------------------------------------------------------


def departed(tokenizer, text, tmp_path, **settings):
    """What ours and theirs make of the same ids of a text."""
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = lib.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ids = tokenizer.encode(text)
    assert ids == theirs.encode(text).ids
    return tokenizer.decode(ids, **settings), theirs.decode(ids, **settings)


def test_special_token_is_left_out_also_where_its_normal_form_is_another(tmp_path):
    seen = WordPieceTokenizer.train("ix ab ab ix", 40)
    added = AddedToken("İx", normalized=True)
    coder = WordPieceTokenizer(
        [*seen.tokens, "İx"], [*seen.added_tokens, added], template=seen.template
    )
    ours, theirs = departed(coder, "ab İx ab", tmp_path, skip_special_tokens=True)
    assert ours == "ab ab" and theirs == "ab ix ab"


def test_added_token_of_a_byte_level_tokenizer_is_written_as_it_is(tmp_path):
    seen = BPETokenizer.train("ab ab", 300)
    added = AddedToken("é!", special=False)
    coder = BPETokenizer([*seen.tokens, "é!"], seen.merges, [added])
    ours, theirs = departed(coder, "aé!b", tmp_path, skip_special_tokens=False)
    assert ours == "aé!b" and theirs == "a\ufffd!b"
