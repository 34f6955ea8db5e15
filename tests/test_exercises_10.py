"""The exercises of notebook 10: their solutions are what the library does."""

import math
from itertools import product

import numpy as np
import pytest

from minibig.data import BPETokenizer, WordPieceTokenizer, documentation
from minibig.exercises.course import nb10


@pytest.mark.parametrize("case", nb10.wordpiece.cases, ids=lambda case: case.name)
def test_wordpiece_is_the_librarys(case):
    word, pieces = case.make()
    tokenizer = WordPieceTokenizer(pieces)
    theirs = [tokenizer.tokens[index] for index in tokenizer.encode(word)]
    assert nb10.wordpiece.solution(word, pieces) == theirs


def test_stream_is_the_librarys():
    tokenizer = BPETokenizer.train("a", 256)
    for case in nb10.stream.cases:
        (tokens,) = case.make()
        parts = nb10.stream.solution(tokens)
        tokens = [*map(bytes, tokens)]
        ids = tokenizer.encode_bytes(b"".join(tokens))
        assert len(parts) == len(tokens) + 1
        assert "".join(parts) == "".join(tokenizer.decode_stream(ids))
        for count in range(len(parts)):
            shown = b"".join(tokens[:count]).decode(errors="ignore")
            assert "".join(parts[:count]) == shown


def test_bits_a_byte_do_not_depend_on_the_cutting():
    text = documentation().documents[0][:200]
    whole, parts = np.array([12.0]), np.full(24, 0.5)
    bits = nb10.bits_per_byte.solution(whole, text)
    assert bits == pytest.approx(nb10.bits_per_byte.solution(parts, text))
    assert bits * len(text.encode()) * math.log(2) == pytest.approx(12)


def test_fewest_pieces_are_those_of_trying_all_ways():
    pieces = ("a", "ab", "ba", "bab", "aab")
    joined = {}
    for count in range(6, -1, -1):
        joined |= {"".join(way): count for way in product(pieces, repeat=count)}
    for word in map("".join, product("ab", repeat=6)):
        assert nb10.fewest_pieces.solution(word, pieces) == joined.get(word, -1)
