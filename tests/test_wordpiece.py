"""WordPiece, cleaning, templates and padded batches."""

import numpy as np
import pytest
from tokenizer_samples import BPE, CHARS, PIECES

from minibig.data import CharTokenizer, Template, WordPieceTokenizer, pad


def test_wordpiece_takes_the_longest_piece_that_fits():
    tokens = ["[UNK]", "un", "##aff", "##able", "a", "##f", "want", "##ed", "unaff"]
    tokenizer = WordPieceTokenizer(tokens, ["[UNK]"], max_input_chars_per_word=9)
    assert tokenizer.encode("unaffable") == [8, 3]  # 9 characters
    assert tokenizer.encode("unaffables wanted wantee") == [0, 6, 7, 0]
    assert tokenizer.decode([8, 3, 6, 7]) == "unaffable wanted"


def test_wordpiece_learns_pieces_of_its_text():
    assert PIECES.tokens[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert {"the", "cat", "##at"} <= set(PIECES.tokens) and "##T" not in PIECES.tokens
    ids = PIECES.encode("The DOG didn't.")
    assert PIECES.decode(ids) == "[CLS] the dog didn ' t. [SEP]"
    assert PIECES.decode(ids, skip_special_tokens=True) == "the dog didn ' t."
    assert PIECES.decode(PIECES.encode("Ω")) == "[CLS] [UNK] [SEP]"


def test_alphabet_of_wordpiece_is_limited_to_the_frequent_characters():
    tokenizer = WordPieceTokenizer.train("aab aac abb", 9, limit_alphabet=2)
    assert tokenizer.tokens[5:] == ("a", "b", "##a", "##b")
    assert "c" not in "".join(tokenizer.tokens[5:])


@pytest.mark.parametrize(
    ("settings", "cleaned"),
    [
        ({}, " cafes 京 σσ"),
        ({"strip_accents": False}, " cafés 京 σσ"),
        ({"lowercase": False}, " Cafés 京 ΣΣ"),
        ({"lowercase": False, "strip_accents": True}, " Cafes 京 ΣΣ"),
        ({"handle_chinese_chars": False}, " cafes京σσ"),
        ({"clean_text": False}, "\tcafe\0s\u200b 京 \ufffdσσ"),
    ],
)
def test_text_is_cleaned_as_bert_does(settings, cleaned):
    tokenizer = WordPieceTokenizer(["[UNK]"], **settings)
    assert tokenizer.normalize("\tCafé\0s\u200b京\ufffdΣΣ") == cleaned


def test_template_frames_texts_and_tells_them_apart():
    cls, sep = (PIECES.special_tokens[t] for t in ("[CLS]", "[SEP]"))
    cat, dog = (PIECES.encode(t, add_special_tokens=False) for t in ("cat", "dog on"))
    pair = PIECES.encode_pair("cat", "dog on")
    assert pair.ids == [cls, *cat, sep, *dog, sep]
    assert pair.type_ids == [0] * (len(cat) + 2) + [1] * (len(dog) + 1)
    assert pair.attention_mask == [1] * len(pair.ids)
    assert PIECES.encode_pair("cat").ids == PIECES.encode("cat") == [cls, *cat, sep]
    assert BPE.encode_pair("cat").ids == BPE.encode("cat")


def test_max_length_cuts_the_longer_text_first():
    template = Template.parse("! $A", "! $A $B:1")
    tokenizer = CharTokenizer("!abc", ["!"], template=template)
    assert tokenizer.encode("abc", max_length=3) == [0, 1, 2]
    assert tokenizer.encode("abc", add_special_tokens=False, max_length=2) == [1, 2]
    lengths = []
    for first, second in [(5, 2), (2, 5), (5, 5), (1, 1)]:
        pair = tokenizer.encode_pair("a" * first, "b" * second, max_length=6)
        lengths.append((pair.ids.count(1), pair.ids.count(2)))
    assert lengths == [(3, 2), (2, 3), (2, 3), (1, 1)]


def test_batches_are_padded_and_masked():
    ids, mask = pad(CHARS.encode_batch(["cat", "", "a"], max_length=2), value=7)
    c, a = CHARS.encode("ca")
    np.testing.assert_array_equal(ids, [[c, a], [7, 7], [a, 7]])
    np.testing.assert_array_equal(mask, [[1, 1], [0, 0], [1, 0]])
    assert ids.dtype == np.int64 and mask.dtype == bool and pad([])[0].shape == (0, 0)
